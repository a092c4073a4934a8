# The one image of Understudy: `understudy agent` on every node, `understudy operator` beside them.

FROM debian:trixie-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/understudy
COPY package.json package-lock.json ./
# Node.js itself is a development dependency, of the version that everything is tested with.
RUN npm ci --omit=dev \
 && npm install --prefix /opt/node --no-audit --no-fund "node@$(npm pkg get devDependencies.node | tr -d '"')" \
 && install -m 0755 /opt/node/node_modules/node/bin/node /usr/local/bin/node
COPY tsconfig.json ./
COPY bin bin
COPY common common
COPY agent agent
COPY operator operator

FROM debian:trixie-slim
# libatomic1 is of Node.js, nbdfuse of libnbd-bin. The rest makes, checks and mounts filesystems and block devices.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      btrfs-progs ca-certificates e2fsprogs fuse3 libatomic1 libnbd-bin mount nbd-client util-linux xfsprogs \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /opt/understudy /opt/understudy
RUN ln -s /opt/understudy/bin/understudy.ts /usr/local/bin/understudy \
 # Starting once fills the cache of compiled code for what every start needs.
 && understudy --version
ENTRYPOINT ["understudy"]
