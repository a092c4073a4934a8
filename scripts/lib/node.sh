# shellcheck shell=bash
# The project's npm packages, which bring the Node.js release it runs on: any npm can install them.

# Installs the packages if they are missing or package-lock.json has changed, then puts them first in PATH. A link to those of
# another working tree is left as it is: npm would empty them.
use_node_modules() {
  command -v npm >/dev/null || die 'npm is missing: install Node.js 20 or later with npm'
  # npm writes this file last, so an interrupted installation is begun again.
  if [[ ! -L node_modules && ! node_modules/.package-lock.json -nt package-lock.json ]]; then
    say 'Installing npm packages (npm ci)'
    npm ci --no-audit --no-fund --loglevel=error
    touch node_modules/.package-lock.json
  fi
  PATH="$PWD/node_modules/.bin:$PATH"
  export PATH
  note "Node.js $(node --version)"
}
