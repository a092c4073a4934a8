import { errorCode } from '../../common/errors.ts';
import { formatBytes } from '../../common/quantity.ts';
import { persistentVolumeNameOf } from '../planning/bindings.ts';
import {
  classNameOf,
  isReclaimed,
  type ProvisioningStep,
  pendingMirrorAnnotation,
  planProvisioning,
  selectedNodeAnnotation,
} from '../planning/plan-provisioning.ts';
import { claimUidLabel } from '../resources/group.ts';
import { type KubeObject, keyOf, type NewObject, type ObjectKey, parseKeyText } from '../resources/kube-object.ts';
import { type PrimaryVolume, primaryVolumes } from '../resources/primary-volume.ts';
import type { Resource } from '../resources/resource.ts';
import { type StandbyMirror, standbyMirrors } from '../resources/standby-mirror.ts';
import { type PersistentVolumeClaim, persistentVolumeClaims } from '../resources/storage-kinds.ts';
import type { ControllerContext } from './controller-context.ts';
import type { Result } from './work-queue.ts';

/**
 * The provisioner of StorageClasses whose provisioner is our CSI driver: what a claim asks for becomes a PrimaryVolume and
 * a StandbyMirror, grows with the claim, and goes with it if the class says so. One key is one claim.
 */
export class ProvisioningController {
  readonly #context: ControllerContext;

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  async reconcile(key: string): Promise<Result> {
    const { caches } = this.#context;
    const claimKey = parseKeyText(key);
    const claim = caches.claims.get(claimKey);
    await this.#reclaim(claimKey, claim);
    if (claim === undefined) return { type: 'done' };
    const step = planProvisioning(this.#worldOf(claim));
    return await this.#perform(step, claim);
  }

  #worldOf(claim: PersistentVolumeClaim) {
    const { caches, agents } = this.#context;
    const className = classNameOf(claim);
    const { namespace, uid } = claim.metadata;
    const others = [...caches.volumes.list(), ...caches.mirrors.list()].filter(
      ({ metadata }) => metadata.namespace === namespace && metadata.labels?.[claimUidLabel] !== uid,
    );
    return {
      claim,
      storageClass: className === undefined ? undefined : caches.storageClasses.get({ name: className }),
      volume: caches.volumes.list().find((volume) => isMadeFor(volume, uid)),
      takenNames: new Set(others.map(({ metadata }) => metadata.name)),
      cluster: caches.cluster(agents),
    };
  }

  async #perform(step: ProvisioningStep, claim: PersistentVolumeClaim): Promise<Result> {
    switch (step.type) {
      case 'nothing':
        return { type: 'done' };
      case 'refuse':
        this.#tell(claim, 'Warning', step.reason, step.message);
        return { type: 'failed' };
      case 'reschedule':
        return await this.#reschedule(claim, step.message);
      case 'create':
        return await this.#provision(claim, step.volume);
      case 'mirror':
        return await this.#mirror(step.volume, step.mirror);
      case 'grow':
        return await this.#grow(claim, step.bytes);
    }
  }

  async #provision(claim: PersistentVolumeClaim, object: NewObject<PrimaryVolume>): Promise<Result> {
    const volume = await this.#create(primaryVolumes, object);
    if (volume === undefined) return { type: 'failed' };
    this.#context.caches.volumes.put(volume);
    this.#tell(claim, 'Normal', 'Provisioning', `PrimaryVolume ${volume.metadata.name} is made for it`);
    return await this.#perform(planProvisioning(this.#worldOf(claim)), claim);
  }

  async #mirror(volume: PrimaryVolume, object: NewObject<StandbyMirror>): Promise<Result> {
    const { api, caches } = this.#context;
    const mirror = await this.#create(standbyMirrors, object);
    if (mirror !== undefined) caches.mirrors.put(mirror);
    const patch = { metadata: { annotations: { [pendingMirrorAnnotation]: null } } };
    caches.volumes.put(await api.patch(primaryVolumes, keyOf(volume), patch));
    return { type: 'done' };
  }

  /** Undefined if there is one of that name already: ours, from a moment ago, or another that will be seen. */
  async #create<T extends KubeObject>(resource: Resource<T>, object: NewObject<T>): Promise<T | undefined> {
    try {
      return await this.#context.api.create(resource, object);
    } catch (error) {
      if (errorCode(error) === 'AlreadyExists') return undefined;
      throw error;
    }
  }

  async #reschedule(claim: PersistentVolumeClaim, why: string): Promise<Result> {
    const { api, caches } = this.#context;
    const node = claim.metadata.annotations?.[selectedNodeAnnotation];
    this.#tell(
      claim,
      'Warning',
      'ProvisioningFailed',
      `not possible on node ${node}, another one is asked for: ${why}`,
    );
    const { resourceVersion } = claim.metadata;
    const patch = { metadata: { resourceVersion, annotations: { [selectedNodeAnnotation]: null } } };
    caches.claims.put(await api.patch(persistentVolumeClaims, keyOf(claim), patch));
    return { type: 'done' };
  }

  async #grow(claim: PersistentVolumeClaim, bytes: number): Promise<Result> {
    const { api, caches } = this.#context;
    const volume = caches.volumes.list().find((candidate) => isMadeFor(candidate, claim.metadata.uid));
    if (volume === undefined) return { type: 'done' };
    const { resourceVersion } = volume.metadata;
    const patch = { metadata: { resourceVersion }, spec: { size: bytes } };
    caches.volumes.put(await api.patch(primaryVolumes, keyOf(volume), patch));
    this.#tell(claim, 'Normal', 'Resizing', `PrimaryVolume ${volume.metadata.name} grows to ${formatBytes(bytes)}`);
    return { type: 'done' };
  }

  /** What was made for claims of that name that are gone. */
  async #reclaim(key: ObjectKey, claim: PersistentVolumeClaim | undefined): Promise<void> {
    const { caches, api } = this.#context;
    const isLeft = ({ metadata }: KubeObject) =>
      metadata.namespace === key.namespace &&
      metadata.labels?.[claimUidLabel] !== undefined &&
      metadata.labels[claimUidLabel] !== claim?.metadata.uid;
    const volumes = caches.volumes.list().filter((volume) => isLeft(volume) && volume.spec.claimName === key.name);
    if (volumes.length === 0) return;
    // Data goes with it: a cache is not enough.
    const now = await api.get(persistentVolumeClaims, key);
    for (const volume of volumes) {
      if (now !== undefined && isMadeFor(volume, now.metadata.uid)) continue;
      const persistentVolume = caches.persistentVolumes.get({ name: persistentVolumeNameOf('PrimaryVolume', volume) });
      if (isReclaimed(volume, persistentVolume)) await this.#remove(volume);
    }
  }

  async #remove(volume: PrimaryVolume): Promise<void> {
    const { api, caches, events } = this.#context;
    const message = `claim ${volume.spec.claimName} is gone, and its reclaim policy is Delete`;
    events.record(volume, { type: 'Normal', reason: 'Reclaimed', message });
    const uid = volume.metadata.labels?.[claimUidLabel] ?? '';
    const mirrors: StandbyMirror[] = caches.mirrors.list().filter((mirror) => isMadeFor(mirror, uid));
    for (const mirror of mirrors) await api.delete(standbyMirrors, keyOf(mirror), { uid: mirror.metadata.uid });
    await api.delete(primaryVolumes, keyOf(volume), { uid: volume.metadata.uid });
  }

  #tell(claim: PersistentVolumeClaim, type: 'Normal' | 'Warning', reason: string, message: string): void {
    this.#context.events.record(claim, { type, reason, message });
  }
}

function isMadeFor({ metadata }: KubeObject, claimUid: string): boolean {
  return metadata.labels?.[claimUidLabel] === claimUid;
}
