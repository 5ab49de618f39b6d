"""Makes the cases of operators that the standard's own cases leave out, in tests/onnx/cases:
NAME/model.onnx with input_I.pb and output_I.pb, and index.json with operator and tolerance.
The outputs are those of ONNX Runtime on the CPU, or of the reference evaluator of the package
onnx where that cannot run a model; index.json says which. Also cases of older operator sets, of
attributes that the standard's cases leave out, and of tensors without elements.

Needs the Python packages onnx, onnxruntime and numpy:
    python tests/onnx/make_cases.py
"""

import json
import shutil

import empty
import operators_alone
import versions
from case import FOLDER, INDEX

if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for part in (operators_alone, versions, empty):
        part.make()
    lines = ",\n".join(json.dumps(entry) for entry in INDEX)
    (FOLDER / "index.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(INDEX)} cases")
