# Configuration of containerd, CNI, kubelet and kube-proxy, where it differs by version too.
# shellcheck shell=bash

write_node_config() { # N DIR
  local n=$1 dir=$2 p=$STATE/pki f
  cp "$p/ca.crt" "$p/node$n.crt" "$p/node$n.key" "$dir/"
  make_kubeconfig "node$n" "https://$CP_IP" "$dir/kubelet.kubeconfig"
  make_kubeconfig proxy "https://$CP_IP" "$dir/kube-proxy.kubeconfig"
  for f in containerd kubelet kube_proxy cni; do "${f}_config" "$n" >"$dir/${f//_/-}.conf"; done
}

# containerd 2 renamed its CRI plugin's sections.
containerd_config() {
  local version format=2
  version=$("$CONTAINERD/containerd" --version | awk '{ print $3 }')
  [[ ${version#v} == 1.* ]] || format=3
  cat <<END
version = $format
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
END
  local runtime images
  case $format in
    2)
      runtime='plugins."io.containerd.grpc.v1.cri"'
      cat <<END
[$runtime]
sandbox_image = "docker.io/local/pause:1"
disable_apparmor = true
restrict_oom_score_adj = true
[$runtime.cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/etc/cni/net.d"
END
      ;;
    3)
      runtime='plugins."io.containerd.cri.v1.runtime"'
      images='plugins."io.containerd.cri.v1.images"'
      cat <<END
[$images.pinned_images]
sandbox = "docker.io/local/pause:1"
[$runtime]
disable_apparmor = true
restrict_oom_score_adj = true
[$runtime.cni]
bin_dirs = ["/usr/lib/cni"]
conf_dir = "/etc/cni/net.d"
END
      ;;
  esac
  cat <<END
[$runtime.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[$runtime.containerd.runtimes.runc.options]
BinaryName = "runc"
SystemdCgroup = false
END
}

kubelet_config() {
  local c=/opt/kube-rig/config
  cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $(node_ip "$1")
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $c/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $c/node$1.crt
tlsPrivateKeyFile: $c/node$1.key
cgroupDriver: cgroupfs
cgroupRoot: /$ID-node$1
enforceNodeAllocatable: []
failSwapOn: false
makeIPTablesUtilChains: false
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
volumePluginDir: /var/lib/kubelet/volumeplugins
evictionHard: {memory.available: 50Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%}
imageGCHighThresholdPercent: 100
syncFrequency: 10s
kubeAPIQPS: 100
kubeAPIBurst: 200
nodeStatusUpdateFrequency: 1s
nodeStatusReportFrequency: 1m
END
  [ "$MINOR" -lt 27 ] || echo "containerRuntimeEndpoint: unix:///run/containerd/containerd.sock"
  [ "$MINOR" -lt 31 ] || echo "failCgroupV1: false"
}

kube_proxy_config() {
  local mode=iptables
  [ "$MINOR" -lt 33 ] || mode=nftables
  cat <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: /opt/kube-rig/config/kube-proxy.kubeconfig}
mode: $mode
clusterCIDR: 10.244.0.0/16
hostnameOverride: $(node_name "$1")
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
END
}

cni_config() {
  cat <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": {
    "type": "host-local", "ranges": [[{"subnet": "$(pod_cidr "$1")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
}
