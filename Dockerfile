# The one image of Understudy: `understudy agent` on every node, `understudy operator` beside them.
# Debian 13, pinned: the same Dockerfile begins with the same files. For a newer one, take the digest of debian:trixie-slim.
ARG BASE=debian:trixie-slim@sha256:a29215f6a35e51e22adffa17f89e9d2ef06214e64a2bad10d765c46aea49f11f

FROM ${BASE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates npm \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/understudy
COPY package.json package-lock.json ./
# Node.js itself is a development dependency, of the version that everything is tested with. What is only for compilers and
# debuggers stays behind.
RUN npm ci --omit=dev --no-audit --no-fund \
 && npm install --prefix /opt/node --no-audit --no-fund "node@$(npm pkg get devDependencies.node | tr -d '"')" \
 && install -m 0755 /opt/node/node_modules/node/bin/node /usr/local/bin/node \
 && find node_modules -type f \( -name '*.d.ts' -o -name '*.d.cts' -o -name '*.d.mts' -o -name '*.map' \) -delete
COPY tsconfig.json ./
COPY bin bin
COPY common common
COPY agent agent
COPY operator operator

FROM ${BASE}
# libatomic1 is of Node.js, nbdfuse of libnbd-bin, modprobe of kmod. The rest makes, checks and mounts filesystems and block
# devices; nbd-client is for a person who has to give up a device by hand. test/cluster/image reads this list.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      btrfs-progs \
      ca-certificates \
      e2fsprogs \
      fuse3 \
      kmod \
      libatomic1 \
      libnbd-bin \
      mount \
      nbd-client \
      util-linux \
      xfsprogs \
 && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /opt/understudy /opt/understudy
# Compiled code, so that a start does not have to compile; Node.js keeps it apart for each user.
ENV NODE_COMPILE_CACHE=/var/cache/understudy
RUN ln -s /opt/understudy/bin/understudy.ts /usr/local/bin/understudy \
 && install -d -m 0755 /var/cache/understudy \
 && install -d -m 1777 /var/cache/understudy/building \
 && for user in 0 65532; do \
      NODE_COMPILE_CACHE=/var/cache/understudy/building setpriv --reuid $user --regid $user --clear-groups \
        node --input-type=module -e "for (const part of ['agent', 'operator']) await import('/opt/understudy/bin/' + part + '-service.ts')"; \
    done \
 && mv /var/cache/understudy/building/* /var/cache/understudy/ \
 && rmdir /var/cache/understudy/building
# For operators. Agents mount filesystems, and are started as root.
USER 65532:65532
ENTRYPOINT ["understudy"]
