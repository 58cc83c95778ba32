// Renders templates with Go's own text/template and with Ollama's package, as the reference for ours. Reads a JSON list of
// cases from the standard input and writes one of results; owns nothing else.
package main

import (
	"encoding/json"
	"os"
	"strings"
	gotemplate "text/template"

	"github.com/ollama/ollama/api"
	"github.com/ollama/ollama/template"
)

type testCase struct {
	Template string `json:"template"`
	// For text/template as it is, with Ollama's functions that need no types of its own.
	Data any `json:"data"`
	// For Ollama's way from messages to a prompt.
	Chat *chat `json:"chat"`
}

type chat struct {
	Messages   []api.Message `json:"messages"`
	Tools      api.Tools     `json:"tools"`
	Prompt     string        `json:"prompt"`
	Suffix     string        `json:"suffix"`
	Think      bool          `json:"think"`
	IsThinkSet bool          `json:"isThinkSet"`
}

type result struct {
	Output *string `json:"output,omitempty"`
	Error  string  `json:"error,omitempty"`
}

func render(c testCase) (string, error) {
	var out strings.Builder
	if c.Chat != nil {
		parsed, err := template.Parse(c.Template)
		if err != nil {
			return "", err
		}
		err = parsed.Execute(&out, template.Values{
			Messages: c.Chat.Messages, Tools: c.Chat.Tools, Prompt: c.Chat.Prompt, Suffix: c.Chat.Suffix,
			Think: c.Chat.Think, IsThinkSet: c.Chat.IsThinkSet,
		})
		return out.String(), err
	}
	parsed, err := gotemplate.New("").Option("missingkey=zero").Funcs(gotemplate.FuncMap{
		"json": func(v any) string {
			text, _ := json.Marshal(v)
			return string(text)
		},
	}).Parse(c.Template)
	if err != nil {
		return "", err
	}
	err = parsed.Execute(&out, c.Data)
	return out.String(), err
}

func main() {
	var cases []testCase
	if err := json.NewDecoder(os.Stdin).Decode(&cases); err != nil {
		panic(err)
	}
	results := make([]result, 0, len(cases))
	for _, c := range cases {
		text, err := render(c)
		if err != nil {
			results = append(results, result{Error: err.Error()})
		} else {
			results = append(results, result{Output: &text})
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		panic(err)
	}
}
