//! The engine on the device of a host application: one with wgpu's default limits and no
//! features, and one with what `Gpu::wanted` asks for. The host must notice nothing.
#![cfg(feature = "text")]

mod common;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use wginfer::Error;
use wginfer::gpu::{Gpu, wgpu};
use wginfer::kernel::{Caps, Form};
use wginfer::ops::cases::{self, Case};
use wginfer::session::run_op;
use wginfer::tensor::Tolerance;
use wginfer::text::{FinishReason, GenerateOptions, Prompt, SamplingSettings, TextModel};
use wginfer::weights::{FileWeights, Weights};

/// What a host application has.
struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// Errors that reached the host's handler.
    errors: Arc<Mutex<Vec<String>>>,
}

impl Host {
    /// The adapter that the other tests run on, opened by the host with features and limits of
    /// its own choice.
    fn open(choose: impl Fn(&wgpu::Adapter) -> (wgpu::Features, wgpu::Limits)) -> Option<Self> {
        let name = &common::gpu()?.adapter().name;
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
        let mut adapters = adapters.into_iter();
        let adapter = adapters.find(|adapter| adapter.get_info().name == *name).expect("found before");
        let (required_features, required_limits) = choose(&adapter);
        let descriptor = wgpu::DeviceDescriptor { required_features, required_limits, ..Default::default() };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let errors = Arc::new(Mutex::new(Vec::new()));
        let seen = errors.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            seen.lock().unwrap().push(error.to_string());
        }));
        Some(Self { adapter, device, queue, errors })
    }

    /// wgpu's default limits, no features.
    fn plain() -> Option<Self> {
        Self::open(|_| (wgpu::Features::empty(), wgpu::Limits::default()))
    }

    fn gpu(&self) -> Gpu {
        Gpu::from_wgpu(&self.adapter, self.device.clone(), self.queue.clone())
    }

    /// Runs `body` in error scopes of the host's: neither these nor the host's handler may get
    /// an error.
    fn unnoticed(&self, body: impl FnOnce()) {
        let filters =
            [wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::OutOfMemory];
        let mut scopes = filters.map(|filter| Some(self.device.push_error_scope(filter)));
        body();
        for scope in scopes.iter_mut().rev() {
            let error = pollster::block_on(scope.take().expect("taken once").pop());
            assert!(error.is_none(), "the host's error scope got {error:?}");
        }
        let errors = self.errors.lock().unwrap();
        assert!(errors.is_empty(), "the host's handler got {errors:?}");
    }

    /// The host's own work on the same queue: a buffer cleared and copied.
    fn works(&self) {
        let usage = wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let descriptor = wgpu::BufferDescriptor { label: None, size: 64, usage, mapped_at_creation: false };
        let buffers = [self.device.create_buffer(&descriptor), self.device.create_buffer(&descriptor)];
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&buffers[0], 0, None);
        encoder.copy_buffer_to_buffer(&buffers[0], 0, &buffers[1], 0, 64);
        self.queue.submit([encoder.finish()]);
        self.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
    }
}

fn check_case(gpu: &Gpu, case: &Case) {
    let limit = case.max_binding_bytes.unwrap_or(gpu.caps().max_binding_bytes);
    let gpu = gpu.with_caps(Caps { max_binding_bytes: limit, ..gpu.caps().clone() });
    let label = format!("{} / {}", case.op.name(), case.name);
    let want = case.op.reference(&case.inputs).unwrap();
    let got = run_op(&gpu, case.op.clone(), &case.inputs).unwrap_or_else(|error| panic!("{label}: {error}"));
    for (got, want) in got.iter().zip(&want) {
        let mismatch = case.tolerance.unwrap_or(Tolerance::of(want.dtype())).mismatch(got, want);
        assert!(mismatch.is_none(), "{label}: {mismatch:?}");
    }
}

fn check_operators(host: &Host) {
    let gpu = host.gpu();
    let mut count = 0;
    for case in cases::all() {
        if ["linear", "softmax", "rms_norm"].contains(&case.op.name()) {
            check_case(&gpu, &case);
            count += 1;
        }
    }
    assert!(count >= 3, "{count} cases");
}

/// Greedy tokens of the golden Llama are those that transformers found.
fn check_generation(gpu: &Gpu) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/llama2");
    let golden = FileWeights::open(&folder.join("golden.safetensors")).unwrap();
    let ids = |name: &str| -> Vec<u32> {
        golden.get(name).unwrap().to_tensor().to_f64().into_iter().map(|id| id as u32).collect()
    };
    let want = ids("greedy_ids");
    let model = TextModel::builder().gpu(gpu).load(folder.to_str().unwrap()).unwrap();
    let options = GenerateOptions {
        sampling: SamplingSettings::greedy(),
        max_tokens: want.len(),
        end_tokens: Some(Vec::new()),
        ..Default::default()
    };
    let got = model.generate_with(Prompt::Ids(ids("input_ids")), &options, |_| {}).unwrap();
    assert_eq!(got.ids, want);
    assert_eq!((got.text.as_str(), got.finish_reason), ("", FinishReason::MaxTokens));
}

#[test]
fn a_device_with_default_limits_and_no_features_is_enough() {
    let Some(host) = Host::plain() else { return };
    let caps = host.gpu().caps().clone();
    assert_eq!((caps.immediates, caps.subgroups, caps.f16), (false, false, false));
    assert_eq!(caps.max_binding_bytes, wgpu::Limits::default().max_storage_buffer_binding_size);
    host.unnoticed(|| {
        check_operators(&host);
        check_generation(&host.gpu());
        // As a GPU of that kind would run it.
        check_generation(&host.gpu().with_caps(caps.with_form(Form::Plain)));
        host.works();
    });
}

#[test]
fn a_device_with_what_is_wanted_is_used_fully() {
    let Some(host) = Host::open(Gpu::wanted) else { return };
    let (own, shared) = (common::gpu().unwrap().caps(), host.gpu().caps().clone());
    assert_eq!(&shared, own, "what is wanted is what the engine requests for itself");
    host.unnoticed(|| {
        check_operators(&host);
        check_generation(&host.gpu());
        host.works();
    });
}

/// What the device objects to becomes an error of ours, not of the host's.
#[test]
fn errors_of_the_engine_stay_with_it() {
    let Some(host) = Host::plain() else { return };
    let caps = Caps { immediates: true, ..host.gpu().caps().clone() };
    let case = cases::all().into_iter().find(|case| case.op.name() == "softmax").expect("a case");
    host.unnoticed(|| {
        let error = run_op(&host.gpu().with_caps(caps), case.op.clone(), &case.inputs).unwrap_err();
        assert!(matches!(error, Error::Device { .. }), "{error}");
        let mut size = host.device.limits().max_buffer_size;
        size += 16;
        let error = host.gpu().buffer("large", size).unwrap_err();
        assert!(error.to_string().contains(&size.to_string()), "{error}");
        check_case(&host.gpu(), &case);
    });
}

/// The host may destroy its device at any time.
#[test]
fn a_destroyed_device_is_an_error() {
    let Some(host) = Host::plain() else { return };
    let gpu = host.gpu();
    let case = cases::all().into_iter().find(|case| case.op.name() == "softmax").expect("a case");
    check_case(&gpu, &case);
    host.device.destroy();
    let error = run_op(&gpu, case.op.clone(), &case.inputs).unwrap_err();
    assert!(matches!(error, Error::DeviceLost(_)), "{error}");
}

#[test]
fn two_engines_share_a_device() {
    let Some(host) = Host::plain() else { return };
    host.unnoticed(|| {
        let (first, second) = (host.gpu(), host.gpu());
        check_generation(&first);
        check_generation(&second);
    });
}

#[test]
fn engines_on_several_threads_share_a_device() {
    let Some(host) = Host::plain() else { return };
    host.unnoticed(|| {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| check_generation(&host.gpu()));
            }
        });
    });
}
