{{- define "understudy.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What identifies the pods of a component. The operator finds agents by the last of these labels. */}}
{{- define "understudy.selector" -}}
app.kubernetes.io/name: {{ default .root.Chart.Name .root.Values.nameOverride }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "understudy.labels" -}}
{{ include "understudy.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "understudy.image" -}}
{{- $repository := required "image.repository is required: no image is published yet, build one with the Dockerfile" .Values.image.repository -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "understudy.operatorService" -}}
{{- printf "%s-operator.%s.svc" (include "understudy.fullname" .) .Release.Namespace -}}
{{- end -}}

{{/* Pools by directory outside of the agent's own folders: what has to be mounted into its pod besides those. */}}
{{- define "understudy.poolDirectories" -}}
{{- $directories := dict -}}
{{- range concat .Values.pools .Values.nodePools -}}
{{- if and .directory (not (hasPrefix (printf "%s/" $.Values.agent.stateDirectory) .directory)) -}}
{{- $_ := set $directories .directory true -}}
{{- end -}}
{{- end -}}
{{- keys $directories | sortAlpha | toJson -}}
{{- end -}}
