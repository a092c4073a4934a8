# Certificates and kubeconfigs, all below $STATE/pki and new for every rig.
# shellcheck shell=bash

make_ca() { # NAME
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$1" \
    -keyout "$1.key" -out "$1.crt" -addext basicConstraints=critical,CA:TRUE \
    -addext keyUsage=critical,digitalSignature,keyEncipherment,keyCertSign 2>/dev/null
}

make_cert() { # NAME SUBJECT USAGE CA [ALTERNATIVE NAMES]
  {
    echo basicConstraints=CA:FALSE
    echo keyUsage=digitalSignature,keyEncipherment
    echo "extendedKeyUsage=$3"
    [ -z "${5:-}" ] || echo "subjectAltName=$5"
  } >"$1.ext"
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA "$4.crt" -CAkey "$4.key" -CAcreateserial -days 3650 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

make_pki() (
  umask 077
  mkdir "$STATE/pki"
  cd "$STATE/pki" || die "no $STATE/pki"
  local svc=kubernetes.default.svc n
  make_ca ca
  make_ca front-proxy-ca
  make_cert apiserver /CN=kube-apiserver serverAuth ca \
    "DNS:localhost,DNS:kubernetes,DNS:${svc%.svc},DNS:$svc,DNS:$svc.cluster.local,IP:127.0.0.1,IP:$SERVICE_IP,IP:$CP_IP"
  make_cert apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth ca
  make_cert front-proxy-client /CN=front-proxy-client clientAuth front-proxy-ca
  make_cert admin /O=system:masters/CN=admin clientAuth ca
  make_cert controller-manager /CN=system:kube-controller-manager clientAuth ca
  make_cert scheduler /CN=system:kube-scheduler clientAuth ca
  make_cert proxy /CN=system:kube-proxy clientAuth ca
  for ((n = 1; n <= NODES; n++)); do
    make_cert "node$n" "/O=system:nodes/CN=system:node:$(node_name "$n")" serverAuth,clientAuth ca \
      "DNS:$(node_name "$n"),IP:$(node_ip "$n"),IP:127.0.0.1"
  done
  openssl genrsa -out sa.key 2048 2>/dev/null
  openssl rsa -in sa.key -pubout -out sa.pub 2>/dev/null
)

make_kubeconfig() ( # NAME SERVER OUT
  umask 077
  cd "$STATE/pki" || die "no $STATE/pki"
  cat >"$3" <<END
apiVersion: v1
kind: Config
current-context: rig
contexts: [{name: rig, context: {cluster: rig, user: $1}}]
clusters: [{name: rig, cluster: {server: "$2", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
END
)
