// Renders a Helm chart's templates with the few functions that ours use.
//
// Standard input: {"files": {path: text}, "data": {"Values": ..., "Release": ..., "Chart": ...}}.
// Standard output: {path: text}. YAML is written as JSON, which is YAML.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"reflect"
	"sort"
	"strings"
	"text/template"
)

type request struct {
	Files map[string]string
	Data  map[string]any
}

// Templates put further keys and items beside the outermost ones, so those have lines of their own.
func toYaml(value any) (string, error) {
	lines := []string{}
	switch found := value.(type) {
	case map[string]any:
		for key, each := range found {
			text, err := json.Marshal(each)
			if err != nil {
				return "", err
			}
			lines = append(lines, fmt.Sprintf("%q: %s", key, text))
		}
		sort.Strings(lines)
	case []any:
		for _, each := range found {
			text, err := json.Marshal(each)
			if err != nil {
				return "", err
			}
			lines = append(lines, "- "+string(text))
		}
	}
	if len(lines) > 0 {
		return strings.Join(lines, "\n"), nil
	}
	text, err := json.Marshal(value)
	return string(text), err
}

func nindent(width int, text string) string {
	pad := "\n" + strings.Repeat(" ", width)
	return pad + strings.ReplaceAll(text, "\n", pad)
}

func orDefault(fallback any, value any) any {
	if value == nil || reflect.ValueOf(value).IsZero() {
		return fallback
	}
	return value
}

func main() {
	var asked request
	decoder := json.NewDecoder(os.Stdin)
	decoder.UseNumber()
	if err := decoder.Decode(&asked); err != nil {
		log.Fatal(err)
	}
	all := template.New("chart").Option("missingkey=error")
	all.Funcs(template.FuncMap{
		"toYaml":    toYaml,
		"nindent":   nindent,
		"default":   orDefault,
		"quote":     func(value any) string { return fmt.Sprintf("%q", fmt.Sprint(value)) },
		"sha256sum": func(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) },
		"include": func(name string, data any) (string, error) {
			var out bytes.Buffer
			err := all.ExecuteTemplate(&out, name, data)
			return out.String(), err
		},
	})
	for path, text := range asked.Files {
		template.Must(all.New(path).Parse(text))
	}
	made := map[string]string{}
	for path := range asked.Files {
		var out bytes.Buffer
		if err := all.ExecuteTemplate(&out, path, asked.Data); err != nil {
			log.Fatal(err)
		}
		made[path] = out.String()
	}
	if err := json.NewEncoder(os.Stdout).Encode(made); err != nil {
		log.Fatal(err)
	}
}
