//! Every shader variant that a device profile can select: rendered, validated, compared with
//! its Rust side, and written to that profile's back end. Needs no GPU.

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::collections::{BTreeSet, HashSet};
use wginfer::graph::{Plan, Step, op_choices};
use wginfer::kernel::{Backend, Caps, Form, Launch, ShaderInfo, undeclared_variables};
use wginfer::ops::cases;

/// The distinct launches of all cases on a device, with all that could be chosen there.
fn launches(caps: &Caps) -> Vec<Launch> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for case in cases::all() {
        let caps = Caps {
            max_binding_bytes: case.max_binding_bytes.unwrap_or(caps.max_binding_bytes),
            ..caps.clone()
        };
        let plans: wginfer::Result<Vec<Plan>> =
            op_choices(&case.op, &case.inputs, &caps).and_then(|devices| {
                devices.iter().map(|caps| Plan::of_op(case.op.clone(), &case.inputs, caps)).collect()
            });
        let plans = plans.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        for Step { launch, .. } in plans.into_iter().flat_map(|plan| plan.steps) {
            if seen.insert((launch.kernel, launch.variants.clone())) {
                found.push(launch);
            }
        }
    }
    #[cfg(feature = "text")]
    for launch in wginfer::bench::probe_launches(caps) {
        if seen.insert((launch.kernel, launch.variants.clone())) {
            found.push(launch);
        }
    }
    found
}

fn write_to_back_end(caps: &Caps, module: &naga::Module) -> Result<(), String> {
    let info: ModuleInfo = Validator::new(ValidationFlags::all(), Capabilities::all())
        .subgroup_stages(naga::valid::ShaderStages::COMPUTE)
        .subgroup_operations(naga::valid::SubgroupOperationSet::all())
        .validate(module)
        .map_err(|error| format!("{error:?}"))?;
    match caps.backend {
        Backend::Vulkan | Backend::Other => {
            let options = spv::Options { lang_version: (1, 3), ..Default::default() };
            spv::write_vec(module, &info, &options, None).map(drop).map_err(|error| error.to_string())
        }
        Backend::Metal => {
            let options =
                msl::Options { lang_version: (3, 1), fake_missing_bindings: true, ..Default::default() };
            let pipeline = msl::PipelineOptions::default();
            msl::write_string(module, &info, &options, &pipeline).map(drop).map_err(|error| error.to_string())
        }
        Backend::Dx12 => {
            let options = hlsl::Options {
                shader_model: hlsl::ShaderModel::V6_7,
                fake_missing_bindings: true,
                immediates_target: Some(hlsl::BindTarget::default()),
                ..Default::default()
            };
            let mut text = String::new();
            let pipeline = hlsl::PipelineOptions::default();
            hlsl::Writer::new(&mut text, &options, &pipeline)
                .write(module, &info, None)
                .map(drop)
                .map_err(|error| error.to_string())
        }
    }
}

#[test]
fn every_variant_is_valid_on_every_profile() {
    let mut failures = Vec::new();
    for (name, profile) in Caps::profiles() {
        for form in [None, Some(Form::Software), Some(Form::Subgroup), Some(Form::Plain)] {
            let caps = Caps { forced: form, ..profile.clone() };
            for launch in launches(&caps) {
                let written = launch
                    .render(&caps)
                    .and_then(|wgsl| ShaderInfo::reflect(launch.kernel, &wgsl, &caps, launch.params.fields));
                let result = match written {
                    Ok((info, _)) if info.bindings.len() != launch.bindings.len() => {
                        let (shader, operator) = (info.bindings.len(), launch.bindings.len());
                        Err(format!("{shader} bindings in the shader, {operator} bound"))
                    }
                    Ok((_, module)) => write_to_back_end(&caps, &module),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(message) = result {
                    failures.push(format!(
                        "{name}, {form:?}: {} {:?}: {message}",
                        launch.kernel, launch.variants
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// A variant key that the template does not use is a typing error, and the other way round.
#[test]
fn variant_keys_are_the_templates_variables() {
    for launch in launches(&Caps::profiles()[1].1) {
        let mut wanted = undeclared_variables(launch.source).unwrap();
        wanted.retain(|name| !["params", "software"].contains(&name.as_str()));
        let given: HashSet<String> = launch.variants.keys().map(|key| (*key).to_owned()).collect();
        let wanted: BTreeSet<String> = wanted.into_iter().collect();
        let given: BTreeSet<String> = given.into_iter().collect();
        assert_eq!(given, wanted, "kernel {}", launch.kernel);
    }
}
