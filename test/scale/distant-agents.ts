import { setTimeout as sleep } from 'node:timers/promises';
import {
  type AgentClient,
  type AgentDirectory,
  staticAgentDirectory,
} from '../../operator/agent-client/agent-client.ts';

/** Agents as over a network: every answer takes `delayMs`, is nobody else's object, and is counted. */
export class DistantAgents {
  requests = 0;
  readonly #delayMs: number;

  constructor(delayMs: number) {
    this.#delayMs = delayMs;
  }

  of(directory: AgentDirectory): AgentDirectory {
    return staticAgentDirectory(
      directory.entries().map((entry) => ({ ...entry, client: this.#distant(entry.client) })),
    );
  }

  #distant(client: AgentClient): AgentClient {
    return new Proxy(client, {
      get: (target, property) => {
        const member: unknown = Reflect.get(target, property);
        if (typeof member !== 'function') return member;
        return async (...args: unknown[]) => {
          this.requests += 1;
          await sleep(this.#delayMs);
          return structuredClone(await Reflect.apply(member, target, args));
        };
      },
    });
  }
}
