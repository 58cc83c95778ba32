#!/bin/bash
# The first process of a node, alone in new network, mount, pid, host name and IPC namespaces. Bash, because it buries
# orphans and costs 3 MB. When it is killed the kernel ends all of the node with it: kubelet, containerd, every container
# and every mount. Arguments: NAME FOLDER ADDRESS SERVICE_RANGE TOOLS; FOLDER holds the configuration, /run/slm the state.
name=$1 folder=$2 address=$3 services=$4 tools=$5
set -u
hostname "$name"

# Mounts made below stay in here; those that a pod makes reach the others of this node.
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir -p /run/containerd /run/netns /run/slm "$folder"/var/{lib,log} "$folder/log"
# The standard paths, but the node's own. The rest of the root file system is the machine's.
mount --bind "$folder/var/lib" /var/lib
mount --bind "$folder/var/log" /var/log
mkdir -p /var/lib/{kubelet,containerd,cni} /var/log/{pods,containers}

ip link set lo up
# The machine lays the cable once it sees this process. (/sys still shows the machine's own network.)
for _ in $(seq 1000); do grep -q eth0: /proc/net/dev && break; sleep 0.02; done
grep -q eth0: /proc/net/dev || { echo "no cable was laid"; exit 1; }
ip address add "$address/24" dev eth0
ip link set eth0 up
# Only so that traffic to services has a route before it is rewritten; there is no default route.
ip route add "$services" dev eth0
while read -r route; do ip route replace $route; done <"$folder/routes"
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0
sysctl -qw net.bridge.bridge-nf-call-iptables=1 2>/dev/null

# supervise NAME COMMAND...: runs it again when it ends, unless /run/slm/NAME.hold exists
supervise() {
  local service=$1
  shift
  while :; do
    if [ -e "/run/slm/$service.hold" ]; then sleep 0.1; continue; fi
    "$@" >>"$folder/log/$service.log" 2>&1 &
    echo $! >"/run/slm/$service.pid"
    wait $!
    echo "=== $service ended with $?" >>"$folder/log/$service.log"
    sleep 0.5
  done
}
export PATH="$tools:$PATH"
supervise containerd containerd --config "$folder/containerd.toml" &
for _ in $(seq 1000); do [ -S /run/containerd/containerd.sock ] && break; sleep 0.02; done
supervise kubelet kubelet --config "$folder/kubelet.json" --kubeconfig "$folder/kubelet.kubeconfig" \
  --hostname-override "$name" --node-ip "$address" &
supervise kube-proxy kube-proxy --config "$folder/kube-proxy.json" &

trap 'exit 0' TERM
while :; do wait -n || sleep 1; done
