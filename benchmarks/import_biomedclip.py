"""A checkpoint as large as BiomedCLIP, with random weights, from its file to an answer: time, memory, size, parity.

    python benchmarks/import_biomedclip.py [FOLDER]

ViT-B/16 and BERT-base (110 M), context 256; the weights are seeded, so that no answer means anything.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.checkpoints import biomedclip, labels_file, prompted

BERT = {"vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "max_position_embeddings": 512}  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="radserve-biomedclip-"))
    model = biomedclip(folder / "biomedclip", vision="vit_base_patch16_224", image=224, config=BERT, context=256,
                       embedding=512)  # fmt: skip
    print(f"{sum(each.numel() for each in model.parameters()):,} parameters")
    del model
    labels = labels_file(folder, prompted("Pneumonia"))
    command = [str(Path(sys.executable).with_name("radserve"))]
    started = time.perf_counter()
    arguments = ["models", "import", f"local-dir:{folder / 'biomedclip'}", "--labels", str(labels)]
    subprocess.run([*command, *arguments, "--out", str(folder / "packs" / "biomedclip")], check=True)
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)
    size = sum(path.stat().st_size for path in (folder / "packs" / "biomedclip").iterdir()) / 1e6
    print(f"import: {seconds:.0f} s, {memory:.1f} GiB, pack {size:.0f} MB")
    for each in json.loads((folder / "packs" / "biomedclip" / "parity.json").read_text())["outputs"]:
        print(f"{each['graph']} {each['output']}: {each['max_abs_diff']:.1e}, cosine {each['least_cosine']:.7f}")
    example = subprocess.run([sys.executable, str(Path(__file__).parents[1] / "examples" / "demo_input.py")],
                             check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
    started = time.perf_counter()
    arguments = ["infer", example, "--pack-dir", str(folder / "packs"), "--pack", "imported"]
    # The embedded Triton opens every instance of every pack before the first answer; one of each is enough here.
    environment = {**os.environ, "RADSERVE_TRITON_INSTANCES": "1", "RADSERVE_TRITON_START_TIMEOUT_S": "600"}
    subprocess.run([*command, *arguments, "--out", str(folder / "out")], check=True, env=environment)
    print(f"server start and first answer: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
