#!/usr/bin/env bash
# The wheel away from the checkout, under each other Python that is here: installed afresh, without torch, and used.
#     packaging/try_wheel.sh .venv/bin/python
# A Python whose packages cannot be fetched is named and passed over; a wheel that does not work ends with 1.
set -euo pipefail
builder=$(realpath -s "$1")
cd "$(dirname "$0")/.."
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$builder" -m pip wheel --disable-pip-version-check -q --no-deps --no-build-isolation -w "$place" .
wheel=$(echo "$place"/mrprism-*.whl)
cd "$place"
for version in 3.12 3.13 3.14; do
  python=
  for each in "python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
    if "$each" -c 'import ensurepip' 2>/dev/null; then python=$each; fi
  done
  if [ -z "$python" ]; then
    echo "Python $version is not here: the wheel was not tried with it"
    continue
  fi
  "$python" -m venv "env$version"
  if ! "env$version/bin/pip" install --disable-pip-version-check -q "$wheel" 2>"log$version"; then
    tail -n 2 "log$version"
    echo "SKIPPED: what mrprism needs cannot be installed for Python $version here"
    continue
  fi
  tried="env$version/bin/mrprism"
  {
    "$tried" phantom "data$version" --size 32 --cases 8
    "$tried" check "data$version"
    "$tried" agree "data$version" --out "agreement$version" --resamples 20
    "$tried" fuse "data$version" --method outline --pooled --out "fused$version"
    "$tried" export "data$version" --to coco --out "coco$version"
  } >"log$version" 2>&1 || { cat "log$version"; echo "the wheel does not work under Python $version"; exit 1; }
  echo "the wheel works under Python $version"
done
