import { parseAllDocuments } from 'yaml';
import { UnderstudyError } from '../../common/errors.ts';
import { findResource } from '../resources/all-kinds.ts';
import { type KubeObject, keyOf, keyText, type NewObject } from '../resources/kube-object.ts';
import type { Resource } from '../resources/resource.ts';
import type { KubeApi } from './kube-api.ts';

export interface AppliedObject {
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
  readonly outcome: 'created' | 'configured' | 'unchanged';
}

/**
 * Creates the objects of a manifest (YAML, any number of documents), or merges the manifest into those that exist: what
 * it does not mention stays as it is. They are applied in order; the first failure ends it.
 * @throws UnderstudyError Invalid for what is no manifest or of an unknown kind, naming the document; or what the API says.
 */
export async function applyManifest(
  api: KubeApi,
  yamlText: string,
  options: { readonly namespace?: string } = {},
): Promise<AppliedObject[]> {
  const manifests = parseManifests(yamlText, options.namespace ?? 'default');
  const applied: AppliedObject[] = [];
  for (const { resource, object } of manifests) applied.push(await applyObject(api, resource, object));
  return applied;
}

interface Manifest {
  readonly resource: Resource;
  readonly object: NewObject<KubeObject>;
}

function parseManifests(yamlText: string, namespace: string): Manifest[] {
  const documents = parseAllDocuments(yamlText);
  return [...documents].flatMap((document, index) => {
    const [error] = document.errors;
    if (error) throw new UnderstudyError('Invalid', `document ${index + 1} is not valid YAML: ${error.message}`);
    const content: unknown = document.toJS();
    return content === null ? [] : [toManifest(content, `document ${index + 1}`, namespace)];
  });
}

function toManifest(content: unknown, place: string, defaultNamespace: string): Manifest {
  if (!isManifest(content)) {
    throw new UnderstudyError('Invalid', `${place} is no object: expected apiVersion, kind and metadata.name`);
  }
  const resource = findResource(content.apiVersion, content.kind);
  if (resource === undefined) {
    throw new UnderstudyError('Invalid', `${place} is of an unknown kind: ${content.apiVersion} ${content.kind}`);
  }
  if (!resource.namespaced) return { resource, object: content };
  const namespace = content.metadata.namespace ?? defaultNamespace;
  return { resource, object: { ...content, metadata: { ...content.metadata, namespace } } };
}

function isManifest(content: unknown): content is NewObject<KubeObject> {
  if (typeof content !== 'object' || content === null) return false;
  const metadata: unknown = Reflect.get(content, 'metadata');
  if (typeof metadata !== 'object' || metadata === null) return false;
  return [Reflect.get(content, 'apiVersion'), Reflect.get(content, 'kind'), Reflect.get(metadata, 'name')].every(
    (value) => typeof value === 'string' && value !== '',
  );
}

async function applyObject(api: KubeApi, resource: Resource, object: NewObject<KubeObject>): Promise<AppliedObject> {
  const key = keyOf(object);
  const described = { kind: resource.kind, ...key };
  const existing = await api.get(resource, key);
  if (existing === undefined) {
    await api.create(resource, object);
    return { ...described, outcome: 'created' };
  }
  if (existing.metadata.deletionTimestamp !== undefined) {
    throw new UnderstudyError(
      'Conflict',
      `${resource.kind} ${keyText(key)} is being deleted; apply it again afterwards`,
    );
  }
  const patched = await api.patch(resource, key, { ...object });
  const same = patched.metadata.resourceVersion === existing.metadata.resourceVersion;
  return { ...described, outcome: same ? 'unchanged' : 'configured' };
}
