{{- define "onetrip.name" -}}
{{ .Release.Name }}-{{ .Values.region }}
{{- end -}}

{{- define "onetrip.selector" -}}
app.kubernetes.io/name: onetrip
app.kubernetes.io/instance: {{ .Release.Name }}
onetrip/region: {{ .Values.region }}
{{- end -}}

{{- define "onetrip.labels" -}}
{{ include "onetrip.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
