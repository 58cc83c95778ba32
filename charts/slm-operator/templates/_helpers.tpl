{{/*
Names are fixed: the CSIDriver and the CRDs make this one install a cluster anyway, and the operator and its agents find
each other by them.
*/}}
{{- define "slm.name" -}}slm-operator{{- end }}
{{- define "slm.agentName" -}}slm-operator-agent{{- end }}

{{- define "slm.labels" -}}
app.kubernetes.io/name: slm-operator
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "slm.operatorSelector" -}}
app.kubernetes.io/name: slm-operator
app.kubernetes.io/component: operator
{{- end }}

{{- define "slm.agentSelector" -}}
app.kubernetes.io/name: slm-operator
app.kubernetes.io/component: agent
{{- end }}

{{- define "slm.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "slm.serverImage" -}}
{{ .Values.serverImage.repository }}:{{ .Values.serverImage.tag | default (printf "%s-cpu" .Chart.AppVersion) }}
{{- end }}

{{/* Server images by variant, as JSON. */}}
{{- define "slm.serverImages" -}}
{{- $images := dict }}
{{- range $variant, $image := .Values.serverImage.variants }}
{{- if not (kindIs "invalid" $image) }}
{{- if contains "/" $image }}
{{- $_ := set $images $variant $image }}
{{- else }}
{{- $tag := $image | default (printf "%s-%s" $.Chart.AppVersion $variant) }}
{{- $_ := set $images $variant (printf "%s:%s" $.Values.serverImage.repository $tag) }}
{{- end }}
{{- end }}
{{- end }}
{{- $images | toJson }}
{{- end }}

{{/* What both kinds of pod have in their spec. Takes a dict of root and the values of one of them. */}}
{{- define "slm.podSpec" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
enableServiceLinks: false
{{- end }}

{{/* Probes of the manager's own server: the same paths in operator and agent. */}}
{{- define "slm.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 1
  failureThreshold: 60
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}
