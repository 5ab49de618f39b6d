//! Plans in words: which kernel computes each operator, and why.

use super::{Plan, Step};

/// The nodes of plans in words, those that are computed in the same way together: how many, the
/// operator with its shapes, what was picked where there was a choice and why, and the kernels. A
/// plan that is explained by the same words as one before it is only counted.
pub fn explain(plans: &[Plan]) -> String {
    let mut text = String::new();
    for (words, count) in counted(plans.iter().map(explain_plan)) {
        let of = if count > 1 { format!(" ({count} plans of this kind)") } else { String::new() };
        text += &words.replacen('\n', &format!("{of}\n"), 1);
    }
    text
}

fn explain_plan(plan: &Plan) -> String {
    let nodes: Vec<&[Step]> = plan.steps.chunk_by(|a, b| a.node == b.node).collect();
    let mut text = format!("plan of {} nodes, {} dispatches\n", nodes.len(), plan.steps.len());
    for (words, count) in counted(nodes.into_iter().map(explain_node)) {
        text += &format!("{count:4}x {words}");
    }
    text
}

fn explain_node(steps: &[Step]) -> String {
    let first = &steps[0];
    let mut text = format!("{} {}\n", first.applied.op, first.applied.shapes());
    for selected in first.selected.iter() {
        text += &format!("      {}: {} ({})\n", selected.family, selected.choice, selected.why);
    }
    for (kernel, count) in counted(steps.iter().map(kernel)) {
        let times = if count > 1 { format!("{count} x ") } else { String::new() };
        text += &format!("      kernel {times}{kernel}\n");
    }
    text
}

fn kernel(step: &Step) -> String {
    let (launch, [x, y, z]) = (&step.launch, step.launch.workgroups);
    format!("{} [{}] in {x}x{y}x{z} workgroups", launch.kernel, launch.variant_text())
}

/// Distinct texts by their first places, with how often each comes.
fn counted(texts: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    for text in texts {
        match found.iter_mut().find(|(known, _)| *known == text) {
            Some((_, count)) => *count += 1,
            None => found.push((text, 1)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Graph;
    use super::*;
    use crate::kernel::Caps;
    use crate::ops::{Linear, Unary, UnaryFn};
    use crate::tensor::{Spec, Tensor};
    use std::sync::Arc;

    fn plan(caps: &Caps) -> Plan {
        let mut graph = Graph::new();
        let weight = graph.constant("weight", Arc::new(Tensor::from_f32([64, 64], &[0.0; 64 * 64])));
        let mut x = graph.input("x", Spec::f32([1, 64]));
        for _ in 0..3 {
            x = graph.add_one(Linear::PLAIN, &[x, weight]).unwrap();
        }
        let output = graph.add_one(Unary(UnaryFn::Relu), &[x]).unwrap();
        graph.output("output", output);
        Plan::new(&graph, caps).unwrap()
    }

    #[test]
    fn equal_nodes_and_plans_are_counted() {
        let mut caps = Caps::webgpu_minimum();
        let text = explain(&[plan(&caps), plan(&caps)]);
        let line = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert!(text.starts_with("plan of 4 nodes, 4 dispatches (2 plans of this kind)\n"), "{text}");
        assert_eq!(
            (line("   3x linear f32[1, 64] f32[64, 64] -> f32[1, 64]"), line("   1x unary")),
            (1, 1),
            "{text}"
        );
        assert_eq!(line("linear: matvec1 (rule: one row)"), 1, "{text}");
        assert_eq!((line("kernel linear_matvec ["), line(" batch=1 ")), (1, 1), "{text}");
        caps.overrides.forced.insert("linear".into(), "matvec8".into());
        let text = explain(&[plan(&caps), plan(&Caps::webgpu_minimum())]);
        assert!(
            text.contains("linear: matvec8 (forced)") && text.contains("linear: matvec1 (rule"),
            "{text}"
        );
    }
}
