import type { KubeObject, NewObject, ObjectKey } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';

/** Something to do in the Kubernetes API. */
export type KubeAction =
  | { readonly verb: 'create'; readonly resource: Resource; readonly object: NewObject<KubeObject> }
  | {
      readonly verb: 'patch';
      readonly resource: Resource;
      readonly key: ObjectKey;
      /** A JSON merge patch. */
      readonly patch: Readonly<Record<string, unknown>>;
      readonly subresource?: 'status';
    }
  | { readonly verb: 'delete'; readonly resource: Resource; readonly key: ObjectKey; readonly uid: string };
