import { KubeConfig } from '@kubernetes/client-node';
import type { KubeApi } from '../../../operator/kube/kube-api.ts';
import { RealKubeApi } from '../../../operator/kube/real-kube-api.ts';

/** The operator's own client, as an administrator. */
export function kubeApiOf(cluster: { readonly kubeconfig: string }): KubeApi {
  const config = new KubeConfig();
  config.loadFromFile(cluster.kubeconfig);
  return new RealKubeApi(config);
}
