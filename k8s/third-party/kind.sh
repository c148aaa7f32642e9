#!/bin/sh
# Installs IMMR's requirements on a laptop's cluster, in the versions listed in README.md. Needs kubectl and helm. Untested.
set -eu
kubectl apply --server-side -f https://github.com/cert-manager/cert-manager/releases/download/v1.18.2/cert-manager.yaml
kubectl -n cert-manager wait --for=condition=Available deployment --all --timeout=5m

PIPELINES=github.com/kubeflow/pipelines/manifests/kustomize
kubectl apply -k "$PIPELINES/cluster-scoped-resources?ref=2.17.0"
kubectl wait --for=condition=established --timeout=2m crd/applications.app.k8s.io
kubectl apply -k "$PIPELINES/env/platform-agnostic?ref=2.17.0"

kubectl apply --server-side -k "github.com/kubeflow/trainer/manifests/overlays/standalone?ref=v1.9.3"

helm upgrade --install eg oci://docker.io/envoyproxy/gateway-helm --version v1.5.1 \
  --namespace envoy-gateway-system --create-namespace --wait
kubectl apply -f - <<'CLASS'
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: eg}
spec: {controllerName: gateway.envoyproxy.io/gatewayclass-controller}
CLASS

helm upgrade --install kserve-crd oci://ghcr.io/kserve/charts/kserve-crd --version v0.20.0 --namespace kserve --create-namespace
# the chart is called kserve-resources since 0.17
helm upgrade --install kserve oci://ghcr.io/kserve/charts/kserve-resources --version v0.20.0 --namespace kserve \
  --set kserve.controller.deploymentMode=Standard --set kserve.controller.gateway.disableIstioVirtualHost=true --wait

helm upgrade --install metrics-server metrics-server --repo https://kubernetes-sigs.github.io/metrics-server/ --version 3.13.0 \
  --namespace kube-system --set args={--kubelet-insecure-tls} --wait

helm upgrade --install prometheus oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack --version 77.5.0 \
  --namespace monitoring --create-namespace \
  --set prometheus.prometheusSpec.serviceMonitorSelectorNilUsesHelmValues=false \
  --set prometheus.prometheusSpec.podMonitorSelectorNilUsesHelmValues=false \
  --set prometheus.prometheusSpec.ruleSelectorNilUsesHelmValues=false \
  --set grafana.sidecar.dashboards.searchNamespace=ALL
