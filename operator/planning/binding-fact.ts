import type { Finding } from '../resources/conditions.ts';
import type { Blocker } from './object-plan.ts';

/** How the PersistentVolume and the claim of an object stand: what others have to know: for the status of the owner, and for its deletion. */
export interface BindingFact {
  readonly persistentVolumeName?: string;
  readonly claimName?: string;
  /** There is to be none. */
  readonly unwanted?: boolean;
  /** Undefined while there is none. */
  readonly finding?: Finding;
  /** Why the owner has to wait with its deletion. */
  readonly blocker?: Blocker;
}
