#!/usr/bin/env bash
# Fetches what the embedded speech recogniser needs into a folder (default: models), 30 MB in all:
#   Moonshine tiny for English, int8 ONNX (MIT)  from the npm package @moonshine-ai/moonshine-js
#   its tokenizer (MIT)                          from the Python package useful-moonshine-onnx
# Every file is held against its SHA-256; what is there and right is left alone.
#   bash deploy/fetch-models.sh [FOLDER]          needs npm, and python3 with pip
#   bash deploy/fetch-models.sh --check [FOLDER]  fetches nothing; succeeds when all is there
set -euo pipefail

only_check=
if [[ ${1:-} == --check ]]; then
    only_check=yes
    shift
fi
folder=${1:-models}
npm_package=@moonshine-ai/moonshine-js@0.1.29
python_package=useful-moonshine-onnx==20251121

# SHA-256, name in the folder. src/speech/recogniser/models.rs has the same list.
sums='c6fc4b7bc5af75c0591fd157a1f3829b533d18e9769a888fd95a62e470dd4f4a  encoder_model.onnx
eed87831c3a6103534aae7d47a5d485025c659a1323901513961c39fe8a1a367  decoder_model_merged.onnx
b68b995a58b3373db6c4f46864a9db50cd1333d086150ffa2c1096581ede9c10  tokenizer.json'

check() { (cd "$1" 2>/dev/null && sha256sum --check --status <<<"$sums" 2>/dev/null); }

if check "$folder"; then
    echo "speech models: in $folder"
    exit 0
elif [[ $only_check ]]; then
    exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "speech models: fetching $npm_package (21 MB)"
(cd "$work" && npm pack --silent "$npm_package" >/dev/null)
tar -xzf "$work"/moonshine-ai-moonshine-js-*.tgz -C "$work" --strip-components=5 \
    package/dist/model/tiny/quantized/encoder_model.onnx \
    package/dist/model/tiny/quantized/decoder_model_merged.onnx
tar -xzf "$work"/moonshine-ai-moonshine-js-*.tgz -C "$work" --strip-components=1 package/LICENSE

echo "speech models: fetching $python_package (1 MB)"
python3 -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work" "$python_package"
python3 - "$work" <<'PYTHON'
import glob, sys, zipfile
folder = sys.argv[1]
with zipfile.ZipFile(glob.glob(folder + "/*.whl")[0]) as wheel, open(folder + "/tokenizer.json", "wb") as out:
    out.write(wheel.read("moonshine_onnx/assets/tokenizer.json"))
PYTHON

if ! check "$work"; then
    echo "speech models: what the registries gave is not what was expected (SHA-256); nothing was changed" >&2
    exit 1
fi
mkdir -p "$folder"
for name in encoder_model.onnx decoder_model_merged.onnx tokenizer.json LICENSE; do
    # Beside its place first, so that a server never reads half a file.
    cp "$work/$name" "$folder/$name.part"
    mv "$folder/$name.part" "$folder/$name"
done
echo "speech models: now in $folder, checked"
