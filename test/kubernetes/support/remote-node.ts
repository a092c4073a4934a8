import { readFile, writeFile } from 'node:fs/promises';
import { SlowLink } from '../../support/slow-link.ts';
import { type AgentProcess, startAgent } from './agent-process.ts';

/** A node whose connections can be cut: with the API server, with the operator, and with the other node. */
export interface RemoteNode {
  readonly agent: AgentProcess;
  /** Where the others reach it. */
  readonly reached: Pick<AgentProcess, 'node' | 'apiAddress' | 'mirrorAddress'>;
  readonly links: {
    /** From it to the API server. */
    readonly kube: SlowLink;
    /** From the operator to it. */
    readonly api: SlowLink;
    /** From the other node to it. */
    readonly mirror: SlowLink;
  };
  remove(): Promise<void>;
}

/** Starts the agent of a node, with attachments, and with the API server of the kubeconfig for an arbiter. */
export async function startRemoteNode(node: string, kubeconfig: string): Promise<RemoteNode> {
  const text = await readFile(kubeconfig, 'utf8');
  const server = /https:\/\/([^"\s/]+)/.exec(text)?.[1];
  if (server === undefined) throw new Error(`no https server in ${kubeconfig}`);
  const kube = await SlowLink.start(server);
  const own = `${kubeconfig}.${node}`;
  await writeFile(own, text.replaceAll(server, kube.address));
  const agent = await startAgent(node, 'fuse', () => ({ arbiter: 'kubernetes', kubernetes: { kubeconfig: own } }));
  const api = await SlowLink.start(agent.apiAddress);
  const mirror = await SlowLink.start(agent.mirrorAddress);
  return {
    agent,
    reached: { node, apiAddress: api.address, mirrorAddress: mirror.address },
    links: { kube, api, mirror },
    remove: async () => {
      await agent.remove();
      for (const link of [kube, api, mirror]) await link.close();
    },
  };
}

/** In both directions, as if its cable were pulled. */
export function isolate({ links }: RemoteNode, other: RemoteNode): void {
  for (const link of [links.kube, links.api, links.mirror, other.links.mirror]) link.cut();
}

/** It hears nobody any more, while all it says arrives. */
export function deafen({ links }: RemoteNode, other: RemoteNode): void {
  for (const link of [links.kube, other.links.mirror]) link.hold('back');
  for (const link of [links.api, links.mirror]) link.hold('towards');
}

export function mend(...nodes: readonly RemoteNode[]): void {
  for (const { links } of nodes) for (const link of Object.values(links)) link.mend();
}
