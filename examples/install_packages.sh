#!/usr/bin/env bash
# Installs what a build of kquant needs on Debian 12, by apt package name. Nothing is done (and no
# root needed) where all of it is there already.
#
#   install_packages.sh           to build and run
#   install_packages.sh --bench   also what bench/run.sh needs
#   install_packages.sh --test    also what the tests and checks need
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config
  libexpected-dev libfmt-dev libpcre2-dev libxsimd-dev xtl-dev nlohmann-json3-dev libcli11-dev zlib1g-dev libxxhash-dev libeigen3-dev
  bubblewrap python3
)
if [[ ${1:-} == --bench || ${1:-} == --test ]]; then
  packages+=(libbenchmark-dev)
fi
if [[ ${1:-} == --test ]]; then
  packages+=(
    catch2 binutils ccache
    clang libomp-14-dev libclang-rt-14-dev clang-format
    g++-aarch64-linux-gnu qemu-user
    libopenmpi-dev openmpi-bin
    python3-venv
  )
fi

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

sudo=()
if [[ $(id -u) -ne 0 ]]; then sudo=(sudo); fi
echo "installing: ${missing[*]}"
"${sudo[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
