"""A session of ONNX Runtime, on its WebGPU provider or its CPU."""

import onnxruntime as ort


def session(model, provider, optimised=True, profile=None):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    # Waiting threads of the CPU provider would take the processors from a software adapter.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if provider == "webgpu" else "1")
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if profile:
        options.enable_profiling = True
        options.profile_file_prefix = profile
    # wginfer's shaders run without run-time checks as well.
    webgpu = ("WebGpuExecutionProvider", {"validationMode": "disabled"})
    providers = [webgpu] if provider == "webgpu" else ["CPUExecutionProvider"]
    made = ort.InferenceSession(model, options, providers=providers)
    if provider == "webgpu" and "WebGpuExecutionProvider" not in made.get_providers():
        raise RuntimeError("the package has no WebGPU provider, or it found no adapter")
    return made
