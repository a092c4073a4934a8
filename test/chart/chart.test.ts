import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { stringify } from 'yaml';
import { customResources } from '../../operator/resources/all-kinds.ts';
import { at, chartDirectory, helm, type Manifest, pick, renderChart, renderManifests } from './support/helm.ts';
import { valueSets } from './support/value-sets.ts';

const project = join(import.meta.dirname, '..', '..');

describe('the chart', () => {
  test('has no lint errors, with and without values', async () => {
    expect(await helm(['lint', chartDirectory])).toContain('0 chart(s) failed');
    const values = stringify({ image: { repository: 'r' }, pools: [{ name: 'main', directory: '/srv/main' }] });
    expect(
      await helm(['lint', '--strict', '--kube-version', '1.35.0', chartDirectory, '--values', '-'], values),
    ).toContain('0 chart(s) failed');
  });

  test('has the version of the package', async () => {
    const { version } = JSON.parse(await readFile(join(project, 'package.json'), 'utf8')) as { version: string };
    const chart = await helm(['show', 'chart', chartDirectory]);
    expect(chart).toContain(`\nversion: ${version}\n`);
    expect(chart).toContain(`appVersion: ${version}\n`);
  });

  test('installs every kind, and helm show crds prints them for upgrades', async () => {
    const shown = await helm(['show', 'crds', chartDirectory]);
    for (const { plural, group } of customResources) expect(shown).toContain(`name: ${plural}.${group}`);
    expect((await readdir(join(chartDirectory, 'crds'))).length).toBe(customResources.length);
  });

  test('describes each of its values', async () => {
    const readme = await readFile(join(chartDirectory, 'README.md'), 'utf8');
    const schema = JSON.parse(await readFile(join(chartDirectory, 'values.schema.json'), 'utf8'));
    const described = (properties: object, path: string): string[] =>
      Object.entries(properties).flatMap(([name, value]: [string, { properties?: object }]) => {
        const key = path === '' ? name : `${path}.${name}`;
        return value.properties === undefined ? [key] : described(value.properties, key);
      });
    const missing = described(schema.properties, '').filter((key) => !readme.includes(`\`${key}\``));
    expect(missing).toEqual(['global']);
  });
});

describe.each(Object.entries(valueSets))('with %s', (_name, values) => {
  test('every object has a name, labels, and a namespace or none by its kind', async () => {
    const clusterWide = ['ClusterRole', 'ClusterRoleBinding', 'CSIDriver', 'StorageClass', 'NodePool'];
    for (const { kind, metadata } of await renderManifests(values, { namespace: 'storage' })) {
      expect(metadata.name, kind).toMatch(/^[a-z0-9.-]+$/);
      expect(metadata.labels, kind).toMatchObject({
        'app.kubernetes.io/name': 'understudy',
        'app.kubernetes.io/instance': 'understudy',
      });
      expect(metadata.namespace, `${kind} ${metadata.name}`).toBe(clusterWide.includes(kind) ? undefined : 'storage');
    }
  });

  test('what a pod mounts is there', async () => {
    for (const manifest of await renderManifests(values)) {
      if (manifest.kind !== 'Deployment' && manifest.kind !== 'DaemonSet') continue;
      const names = (path: string) =>
        at<{ name: string }[]>(manifest, path)
          .map(({ name }) => name)
          .sort();
      expect(names('spec.template.spec.containers.0.volumeMounts')).toEqual(names('spec.template.spec.volumes'));
    }
  });
});

describe('pools', () => {
  const values = valueSets['node pools, devices, and pools elsewhere'];

  test('of nodes become NodePools', async () => {
    const pools = (await renderManifests(values)).filter(({ kind }) => kind === 'NodePool');
    expect(pools.map((pool) => [pool.metadata.name, at(pool, 'spec')])).toEqual([
      [
        'node-a-buffer',
        { node: 'node-a', name: 'buffer', directory: '/srv/understudy-buffer', purpose: 'buffer', capacity: '10Gi' },
      ],
      ['node-b-buffer', { node: 'node-b', name: 'buffer', directory: '/srv/understudy-buffer', purpose: 'buffer' }],
      ['node-b-fast', { node: 'node-b', name: 'fast', devices: ['/dev/nvme1n1'] }],
    ]);
  });

  test('outside of the state directory are mounted into the agent, each folder once', async () => {
    const agent = pick(await renderManifests(values), 'DaemonSet');
    const paths = at<object[]>(agent, 'spec.template.spec.volumes').map((volume) =>
      at<string>(volume, 'hostPath.path'),
    );
    expect(paths.filter((path) => path?.startsWith('/srv'))).toEqual(['/srv/main', '/srv/understudy-buffer']);
  });

  test('are required, as an image is', async () => {
    await expect(renderChart({ image: { repository: 'r' } }, { bare: true })).rejects.toThrow(/no pools: set pools/);
    await expect(renderChart({ pools: [{ name: 'a', directory: '/a' }] }, { bare: true })).rejects.toThrow(
      /image.repository is required/,
    );
  });
});

describe('what the cluster decides', () => {
  test('a PodDisruptionBudget of policy/v1 where there is one, else of v1beta1, and none for one replica', async () => {
    const old = await renderManifests({}, { kubeVersion: '1.20.2' });
    expect(pick(old, 'PodDisruptionBudget').apiVersion).toBe('policy/v1beta1');
    const recent = await renderManifests({}, { kubeVersion: '1.21.0' });
    expect(pick(recent, 'PodDisruptionBudget').apiVersion).toBe('policy/v1');
    const single = await renderManifests({ operator: { replicas: 1 } });
    expect(single.filter(({ kind }) => kind === 'PodDisruptionBudget')).toEqual([]);
  });

  test('SELinux by mount option where the kubelet can', async () => {
    const driverOf = async (kubeVersion: string) =>
      at(pick(await renderManifests({}, { kubeVersion }), 'CSIDriver'), 'spec');
    expect(await driverOf('1.20.2')).not.toHaveProperty('seLinuxMount');
    expect(await driverOf('v1.33.1-gke.100')).toMatchObject({
      seLinuxMount: true,
      attachRequired: false,
      podInfoOnMount: true,
      fsGroupPolicy: 'ReadWriteOnceWithFSType',
    });
  });

  test('clusters older than 1.20 are refused', async () => {
    await expect(renderChart({}, { kubeVersion: '1.19.9' })).rejects.toThrow(/>=1\.20/);
  });
});

describe('values that are refused', () => {
  test.each<[string, object, RegExp]>([
    ['a key that is mistyped', { agent: { atach: 'nbd' } }, /atach/],
    ['a driver that does not exist', { agent: { attach: 'iscsi' } }, /attach/],
    ['a pool with directory and devices', { pools: [{ name: 'a', directory: '/a', devices: ['/dev/a'] }] }, /pools/],
    ['a pool with neither', { nodePools: [{ node: 'n', name: 'a' }] }, /nodePools/],
    ['a pool at a relative path', { pools: [{ name: 'a', directory: 'a' }] }, /directory/],
    ['no operators', { operator: { replicas: 0 } }, /replicas/],
    ['a port out of range', { agent: { apiPort: 70000 } }, /apiPort/],
    [
      'too little time to end in order',
      { agent: { terminationGracePeriodSeconds: 5 } },
      /terminationGracePeriodSeconds/,
    ],
    ['a digest that is none', { image: { repository: 'r', digest: 'latest' } }, /digest/],
    ['enrollment in clear text', { agent: { enrollmentUrl: 'http://x' } }, /enrollmentUrl/],
  ])('%s', async (_what, values, message) => {
    await expect(renderChart(values)).rejects.toThrow(message);
  });
});

describe('rights', () => {
  test('every rule says what it is for', async () => {
    const template = await readFile(join(chartDirectory, 'templates', 'rbac.yaml'), 'utf8');
    const lines = template.split('\n').map((line) => line.trim());
    const rules = lines.flatMap((line, index) => (line.startsWith('- apiGroups:') ? [index] : []));
    expect(rules.length).toBeGreaterThan(10);
    // A rule may share the comment of the one before it, which ends in its verbs.
    const bare = rules.filter((index) => !/^(#|verbs:)/.test(lines[index - 1] ?? ''));
    expect(bare.map((index) => lines[index + 1])).toEqual([]);
  });

  test('no rule is for everything', async () => {
    const roles = (await renderManifests()).filter(({ kind }) => kind.endsWith('Role'));
    expect(roles.length).toBe(3);
    for (const role of roles) expect(JSON.stringify(role), role.metadata.name).not.toContain('*');
  });

  test('an agent may read volumes and patch their status, and nothing else; without the arbiter, nothing', async () => {
    const agentRules = (manifests: readonly Manifest[]) =>
      manifests
        .filter(({ kind, metadata }) => kind.endsWith('Role') && metadata.name.endsWith('-agent'))
        .flatMap((role) => at<object[]>(role, 'rules'));
    expect(agentRules(await renderManifests())).toEqual([
      { apiGroups: ['understudy.dev'], resources: ['primaryvolumes'], verbs: ['get'] },
      { apiGroups: ['understudy.dev'], resources: ['primaryvolumes/status'], verbs: ['patch'] },
    ]);
    expect(agentRules(await renderManifests({ agent: { arbiter: 'none' } }))).toEqual([]);
  });

  test('an agent is confined by an admission policy, if asked for and where there are any', async () => {
    const values = { agent: { admissionPolicy: { enabled: true } } };
    const manifests = await renderManifests(values, { kubeVersion: '1.33.1', namespace: 'storage' });
    const spec = at<object>(pick(manifests, 'ValidatingAdmissionPolicy'), 'spec');
    expect(at(spec, 'matchConditions.0.expression')).toBe(
      "request.userInfo.username == 'system:serviceaccount:storage:understudy-agent'",
    );
    expect(at<unknown[]>(spec, 'validations').length).toBe(4);
    expect(at(pick(manifests, 'ValidatingAdmissionPolicyBinding'), 'spec')).toEqual({
      policyName: pick(manifests, 'ValidatingAdmissionPolicy').metadata.name,
      validationActions: ['Deny'],
    });
    await expect(renderChart(values, { kubeVersion: '1.29.0' })).rejects.toThrow(/1\.30/);
    const without = (await renderManifests()).filter(({ kind }) => kind.startsWith('ValidatingAdmission'));
    expect(without).toEqual([]);
  });

  test('the operator may delete pods, and run commands in them, only if that is asked for', async () => {
    const may = async (verb: string, resource: string, values: object) =>
      (await renderManifests(values))
        .filter(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name.endsWith('-operator'))
        .flatMap((role) => at<{ resources: string[]; verbs: string[] }[]>(role, 'rules'))
        .some(({ resources, verbs }) => resources.includes(resource) && verbs.includes(verb));
    expect(await may('delete', 'pods', { operator: { hooks: true } })).toBe(false);
    expect(await may('delete', 'pods', { operator: { evictPods: true } })).toBe(true);
    expect(await may('create', 'pods/exec', { operator: { evictPods: true } })).toBe(false);
    expect(await may('create', 'pods/exec', { operator: { hooks: true } })).toBe(true);
    expect(await may('create', 'jobs', { operator: { hooks: true, evictPods: true } })).toBe(false);
    expect(await may('create', 'jobs', { operator: { jobs: true } })).toBe(true);
  });

  test('the operator has nothing of the machine', async () => {
    const pod = at<object>(pick(await renderManifests(), 'Deployment'), 'spec.template.spec');
    expect(at(pod, 'securityContext')).toMatchObject({
      runAsNonRoot: true,
      seccompProfile: { type: 'RuntimeDefault' },
    });
    expect(at(pod, 'containers.0.securityContext')).toEqual({
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'] },
    });
    expect(at<object[]>(pod, 'volumes').filter((volume) => 'hostPath' in volume)).toEqual([]);
  });
});
