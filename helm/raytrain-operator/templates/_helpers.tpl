{{- define "raytrain.labels" -}}
app.kubernetes.io/name: raytrain-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/part-of: raytrain
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- /* our labels and `more`, each key once; ours win, because selectors go by them */ -}}
{{- define "raytrain.labelsWith" -}}
{{- toYaml (merge (include "raytrain.labels" .root | fromYaml) (.more | default dict)) -}}
{{- end }}

{{- define "raytrain.selector" -}}
app.kubernetes.io/name: raytrain-operator
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "raytrain.account" -}}
{{- .Values.serviceAccount.name | default "raytrain-operator" }}
{{- end }}

{{- /* registry/repository:tag or @digest of (dict "image" ... "root" $) */ -}}
{{- define "raytrain.image" -}}
{{- with .image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .image.tag | default .root.Chart.AppVersion }}{{ end -}}
{{- end }}

{{- define "raytrain.settings" -}}
{{- $runs := merge (dict "image" (include "raytrain.image" (dict "image" .Values.runImage "root" $))) .Values.settings.runs -}}
{{- range $optional := list "storage" "clusterName" }}
{{- if not (get $runs $optional) }}{{ $runs = omit $runs $optional }}{{ end }}
{{- end }}
{{- toYaml (merge (dict "runs" $runs) (omit .Values.settings "runs")) -}}
{{- end }}

{{- /* a CEL list of regular expressions of a list of globs */ -}}
{{- define "raytrain.globs" -}}
{{- $found := list -}}
{{- range . }}{{ $found = append $found (printf "^%s$" (regexQuoteMeta . | replace "\\*" ".*" | replace "\\?" ".")) }}{{ end -}}
{{- toRawJson $found -}}
{{- end }}

{{- /* the same of patterns of images: a repository and what is below it, or one with tag or digest */ -}}
{{- define "raytrain.imagePatterns" -}}
{{- $found := list -}}
{{- $version := "(:[A-Za-z0-9_.-]+)?(@sha256:[0-9a-f]{64})?" -}}
{{- range . }}
{{- $quoted := regexQuoteMeta (trimSuffix "/" .) | replace "\\*" "[A-Za-z0-9_.-]*" | replace "\\?" "." -}}
{{- $exact := or (contains "@" .) (contains ":" (last (splitList "/" .))) -}}
{{- if and $exact (not (hasSuffix "/" .)) }}{{ $found = append $found (printf "^%s$" $quoted) }}
{{- else }}{{ $found = append $found (printf "^%s%s%s$" $quoted (ternary "(/[a-z0-9._-]+)+" "(/[a-z0-9._-]+)*" (not (contains "/" (trimSuffix "/" .)))) $version) }}{{ end -}}
{{- end -}}
{{- toRawJson $found -}}
{{- end }}
