import type { Clock } from '../common/clock.ts';
import type { Log } from '../common/log.ts';
import { AdvertisedAddresses } from './agent-client/advertised-addresses.ts';
import type { AgentClient, AgentDirectory, AgentEntry } from './agent-client/agent-client.ts';
import { type AgentLocation, agentsOfPods } from './agent-client/agents-of-pods.ts';
import type { AgentTls } from './agent-client/http-request.ts';
import { RenewingClients } from './agent-client/renewing-clients.ts';
import type { OperatorConfig } from './config.ts';
import type { KubeApi } from './kube/kube-api.ts';
import { startReflector } from './kube/reflector.ts';
import { type AgentPod, agentPods } from './resources/platform-kinds.ts';

export interface AgentsOptions {
  readonly config: OperatorConfig;
  readonly api: KubeApi;
  /** Undefined while there are none yet, see `renew`. */
  readonly tls: AgentTls | undefined;
  readonly clock: Clock;
  readonly log: Log;
}

/** The agents that the configuration names, and those that are found by their pods. */
export class Agents implements AgentDirectory {
  readonly #configured: ReadonlyMap<string, AgentLocation>;
  readonly #clients: RenewingClients;
  readonly #pods = new Map<string, AgentPod>();
  readonly #reflector: { stop(): Promise<void> } | undefined;
  /** Of the agents that are found, if mirrors have a network of their own. */
  readonly #advertised: AdvertisedAddresses | undefined;
  #found = new Map<string, AgentLocation>();

  constructor({ config, api, tls, clock, log }: AgentsOptions) {
    this.#configured = new Map(config.agents.map((agent) => [agent.node, agent]));
    this.#clients = new RenewingClients(clock, tls);
    const { agentPods: ports, ownNamespace } = config;
    if (ports === undefined || ownNamespace === undefined) return;
    const locate = () => {
      this.#found = new Map(agentsOfPods([...this.#pods.values()], ports).map((agent) => [agent.node, agent]));
    };
    const { mirrorNetwork: network } = ports;
    if (network !== undefined) {
      const clients = () => this.#foundClients();
      this.#advertised = new AdvertisedAddresses({ network, clients, clock, log: log.child({ component: 'agents' }) });
    }
    this.#reflector = startReflector<AgentPod>({
      api,
      resource: agentPods,
      scope: { namespace: ownNamespace, labelSelector: ports.labelSelector },
      clock,
      random: Math.random,
      log: log.child({ component: 'agents' }),
      onList: (pods) => {
        this.#pods.clear();
        for (const pod of pods) this.#pods.set(pod.metadata.uid, pod);
        locate();
      },
      onChange: (type, pod) => {
        if (type === 'DELETED') this.#pods.delete(pod.metadata.uid);
        else this.#pods.set(pod.metadata.uid, pod);
        locate();
      },
    });
  }

  /** Requests that are made from now on use these certificates. */
  renew(tls: AgentTls): void {
    this.#clients.renew(tls);
  }

  find(node: string): AgentEntry | undefined {
    const location = this.#configured.get(node) ?? this.#found.get(node);
    const client = location && this.#clients.find(node, location.url);
    if (client === undefined) return undefined;
    const isAsked = this.#advertised !== undefined && !this.#configured.has(node);
    return { node, client, mirrorAddress: isAsked ? this.#advertised.of(node) : location?.mirrorAddress };
  }

  entries(): readonly AgentEntry[] {
    const nodes = new Set([...this.#configured.keys(), ...this.#found.keys()]);
    return [...nodes].sort().flatMap((node) => this.find(node) ?? []);
  }

  #foundClients(): ReadonlyMap<string, AgentClient> {
    const clients = [...this.#found.values()].map(({ node, url }) => [node, this.#clients.find(node, url)] as const);
    return new Map(clients.flatMap(([node, client]) => (client === undefined ? [] : [[node, client]])));
  }

  async stop(): Promise<void> {
    this.#advertised?.stop();
    await this.#reflector?.stop();
  }
}
