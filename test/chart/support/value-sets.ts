/** Values that together use every template and every branch of the chart. */
export const valueSets: Record<string, object> = {
  'the least': {},
  'node pools, devices, and pools elsewhere': {
    pools: [{ name: 'main', directory: '/srv/main' }],
    nodePools: [
      { node: 'node-a', name: 'buffer', directory: '/srv/understudy-buffer', purpose: 'buffer', capacity: '10Gi' },
      { node: 'node-b', name: 'buffer', directory: '/srv/understudy-buffer', purpose: 'buffer' },
      { node: 'node-b', name: 'fast', devices: ['/dev/nvme1n1'] },
    ],
  },
  'one operator, no CSI, no arbiter': {
    operator: { replicas: 1, watchNamespace: 'databases' },
    agent: { arbiter: 'none', attach: 'fuse' },
    csi: { enabled: false },
  },
  'IPv6, other ports, addresses and folders': {
    agent: {
      ipFamily: 'IPv6',
      apiPort: 9071,
      mirrorPort: 9072,
      resyncBytesPerSecond: '50Mi',
      nbd: { port: 10809, exports: 'all' },
      stateDirectory: '/data/understudy',
      enrollmentUrl: 'https://[fd00::5]:7074',
    },
    operator: { clusterIP: 'fd00::5' },
    kubeletDirectory: '/var/lib/k0s/kubelet',
  },
  'a network for mirrors': { agent: { mirrorNetwork: '10.20.0.0/16' } },
  'a network of IPv6 for mirrors': { agent: { mirrorNetwork: 'fd00:20::/64' } },
  'everything that is off by default': {
    operator: { evictPods: true, hooks: true },
    networkPolicy: { enabled: true },
    metrics: {
      podMonitors: { enabled: true, agentTlsSecret: 'prometheus' },
      prometheusRule: { enabled: true },
      dashboard: { enabled: true },
    },
    imagePullSecrets: [{ name: 'registry' }],
    storageClasses: [{ name: 'fast', default: true, parameters: { pool: 'fast', mirror: true, maxSnapshots: 8 } }],
  },
};
