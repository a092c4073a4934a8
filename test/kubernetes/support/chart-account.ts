import { readFile, writeFile } from 'node:fs/promises';
import { parse, stringify } from 'yaml';
import { renderManifests } from '../../chart/support/helm.ts';
import type { Kubectl } from './kubectl.ts';
import { manifest } from './manifests.ts';

const release = 'understudy';
const account = `system:serviceaccount:${release}:understudy-operator`;

/** The operator's rights as the chart grants them, and nothing else. */
export interface ChartAccount {
  /** With it one is the operator of the chart. */
  readonly kubeconfig: string;
  /** Applies the chart's roles with other values. */
  grant(values: object): Promise<void>;
  remove(): Promise<void>;
}

/** Applies the roles of the operator, rendered with these values, on a cluster of which `kubeconfig` is the administrator's. */
export async function chartAccount(kubeconfig: string, kubectl: Kubectl, values: object = {}): Promise<ChartAccount> {
  const roles = async (given: object) =>
    (await renderManifests(given, { namespace: release })).filter(
      ({ kind, metadata }) => /^ClusterRole(Binding)?$/.test(kind) && metadata.name === 'understudy-operator',
    );
  const grant = async (given: object) => {
    await kubectl.run(['apply', '-f', '-'], manifest(...(await roles(given))));
  };
  await grant(values);
  const config = parse(await readFile(kubeconfig, 'utf8')) as { users: { user: object }[] };
  const users = config.users.map((each) => ({ ...each, user: { ...each.user, as: account } }));
  const own = `${kubeconfig}.operator`;
  await writeFile(own, stringify({ ...config, users }), { mode: 0o600 });
  return {
    kubeconfig: own,
    grant,
    remove: async () => {
      await kubectl.try(['delete', 'clusterrole,clusterrolebinding', 'understudy-operator']);
    },
  };
}
