// Checks the server through Ollama's own Go package, and reports one JSON line for each check.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/ollama/ollama/api"
)

const (
	question = "Name the capital of France."
	answer   = "The capital of France is Paris."
)

var (
	model   = os.Getenv("SLM_MODEL")
	base, _ = url.Parse(os.Getenv("SLM_URL"))
	client  = clientWith(os.Getenv("SLM_KEY"))
	exact   = map[string]any{"temperature": 0, "repeat_penalty": 1}
)

// withKey adds a key to every request, as a program behind an authenticating server does.
type withKey string

func (key withKey) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	if key != "" {
		request.Header.Set("Authorization", "Bearer "+string(key))
	}
	return http.DefaultTransport.RoundTrip(request)
}

func clientWith(key string) *api.Client {
	return api.NewClient(base, &http.Client{Transport: withKey(key)})
}

// check is one function under a name; its error is the report.
type check struct {
	name string
	run  func(ctx context.Context) error
}

var checks = []check{
	{"chat in one piece", func(ctx context.Context) error {
		stream := false
		var parts []api.ChatResponse
		err := client.Chat(ctx, &api.ChatRequest{Model: model, Messages: ask(question), Stream: &stream, Options: exact}, collect(&parts))
		if err != nil {
			return err
		}
		last := parts[len(parts)-1]
		if last.PromptEvalCount == 0 || last.EvalDuration <= 0 || last.TotalDuration < last.EvalDuration {
			return fmt.Errorf("counters: %+v", last.Metrics)
		}
		return same([]any{len(parts), last.Message.Content, last.DoneReason, last.EvalCount}, []any{1, answer, "stop", 7})
	}},
	{"chat as a stream", func(ctx context.Context) error {
		var parts []api.ChatResponse
		err := client.Chat(ctx, &api.ChatRequest{Model: model, Messages: ask(question), Options: exact}, collect(&parts))
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, part := range parts {
			text.WriteString(part.Message.Content)
		}
		return same([]any{text.String(), len(parts) > 3, parts[len(parts)-1].Done}, []any{answer, true, true})
	}},
	{"structured output", func(ctx context.Context) error {
		format := json.RawMessage(`{"type":"object","properties":{"city":{"enum":["Paris","Rome"]}},"required":["city"],"additionalProperties":false}`)
		var parts []api.ChatResponse
		err := client.Chat(ctx, &api.ChatRequest{Model: model, Messages: ask(question), Format: format, Options: exact}, collect(&parts))
		if err != nil {
			return err
		}
		var text strings.Builder
		for _, part := range parts {
			text.WriteString(part.Message.Content)
		}
		var got struct{ City string }
		if err := json.Unmarshal([]byte(text.String()), &got); err != nil {
			return err
		}
		return same(got.City, "Paris")
	}},
	{"tools, several calls in a stream", func(ctx context.Context) error {
		var tools api.Tools
		if err := json.Unmarshal([]byte(`[{"type":"function","function":{"name":"get_weather","description":"The weather","parameters":{"type":"object","required":["city"],"properties":{"city":{"type":"string","description":"a city"}}}}}]`), &tools); err != nil {
			return err
		}
		request := &api.ChatRequest{Model: model, Messages: ask("What is the weather in Paris and in Berlin?"), Tools: tools, Options: exact}
		var parts []api.ChatResponse
		if err := client.Chat(ctx, request, collect(&parts)); err != nil {
			return err
		}
		var cities []any
		for _, part := range parts {
			for _, call := range part.Message.ToolCalls {
				cities = append(cities, call.Function.Arguments.ToMap()["city"])
			}
		}
		return same(cities, []any{"Paris", "Berlin"})
	}},
	{"generate, and on from its context", func(ctx context.Context) error {
		var first, next api.GenerateResponse
		stream := false
		request := &api.GenerateRequest{Model: model, Prompt: question, Stream: &stream, Options: exact}
		if err := client.Generate(ctx, request, last(&first)); err != nil {
			return err
		}
		request = &api.GenerateRequest{Model: model, Prompt: "And of Italy?", Context: first.Context, Stream: &stream, Options: exact}
		if err := client.Generate(ctx, request, last(&next)); err != nil {
			return err
		}
		return same([]any{first.Response, next.PromptEvalCount > len(first.Context)}, []any{answer, true})
	}},
	{"every option that the package knows, at its default", func(ctx context.Context) error {
		options := api.DefaultOptions()
		options.NumCtx, options.NumPredict = 1024, 4
		text, err := json.Marshal(options)
		if err != nil {
			return err
		}
		request := &api.GenerateRequest{Model: model, Prompt: question}
		if err := json.Unmarshal(text, &request.Options); err != nil {
			return err
		}
		var got api.GenerateResponse
		if err := client.Generate(ctx, request, last(&got)); err != nil {
			return err
		}
		return same([]any{got.EvalCount, got.DoneReason}, []any{4, "length"})
	}},
	{"loading with a keep_alive", func(ctx context.Context) error {
		var got api.GenerateResponse
		request := &api.GenerateRequest{Model: model, KeepAlive: &api.Duration{Duration: 5 * time.Minute}}
		if err := client.Generate(ctx, request, last(&got)); err != nil {
			return err
		}
		return same([]any{got.Done, got.DoneReason}, []any{true, "load"})
	}},
	{"embeddings", func(ctx context.Context) error {
		many, err := client.Embed(ctx, &api.EmbedRequest{Model: model, Input: []string{"a cat", "a kitten"}})
		if err != nil {
			return err
		}
		one, err := client.Embeddings(ctx, &api.EmbeddingRequest{Model: model, Prompt: "a cat"})
		if err != nil {
			return err
		}
		return same([]any{len(many.Embeddings), len(many.Embeddings[0]), len(one.Embedding)}, []any{2, 576, 576})
	}},
	{"list, show, ps, version and heartbeat", func(ctx context.Context) error {
		list, err := client.List(ctx)
		if err != nil {
			return err
		}
		running, err := client.ListRunning(ctx)
		if err != nil {
			return err
		}
		shown, err := client.Show(ctx, &api.ShowRequest{Model: model})
		if err != nil {
			return err
		}
		version, err := client.Version(ctx)
		if err != nil {
			return err
		}
		if err := client.Heartbeat(ctx); err != nil {
			return err
		}
		full := model + ":latest"
		got := []any{list.Models[0].Name, running.Models[0].Name, running.Models[0].ContextLength, shown.Details.Format, version != ""}
		return same(got, []any{full, full, 1024, "gguf", true})
	}},
	{"a model that is not here is a StatusError", func(ctx context.Context) error {
		_, err := client.Show(ctx, &api.ShowRequest{Model: "other"})
		return status(err, http.StatusNotFound, "not found")
	}},
	{"a prompt that is too long and may not be cut says how long it may be", func(ctx context.Context) error {
		never := false
		request := &api.GenerateRequest{Model: model, Prompt: strings.Repeat("one more word ", 1000), Truncate: &never}
		return status(client.Generate(ctx, request, func(api.GenerateResponse) error { return nil }), http.StatusBadRequest, "holds 1024")
	}},
	{"without a key, an AuthorizationError", func(ctx context.Context) error {
		_, err := clientWith("").List(ctx)
		var denied api.AuthorizationError
		if !errors.As(err, &denied) {
			return fmt.Errorf("got %T: %v", err, err)
		}
		return same(denied.StatusCode, http.StatusUnauthorized)
	}},
	{"pull is refused", func(ctx context.Context) error {
		err := client.Pull(ctx, &api.PullRequest{Model: "llama3"}, func(api.ProgressResponse) error { return nil })
		return status(err, http.StatusForbidden, "SLMModel")
	}},
	{"a stream that is cancelled gives its slot back", func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		pieces := 0
		request := &api.GenerateRequest{Model: model, Prompt: "Tell a long story.", Options: map[string]any{"num_predict": 900}}
		err := client.Generate(ctx, request, func(api.GenerateResponse) error {
			if pieces++; pieces == 3 {
				cancel()
			}
			return nil
		})
		// The client takes a stream that breaks off for one that has ended.
		if err != nil && !errors.Is(err, context.Canceled) || pieces >= 900 {
			return fmt.Errorf("got %T after %d pieces: %v", err, pieces, err)
		}
		return idle()
	}},
}

func ask(text string) []api.Message {
	return []api.Message{{Role: "user", Content: text}}
}

func collect(parts *[]api.ChatResponse) api.ChatResponseFunc {
	return func(part api.ChatResponse) error {
		*parts = append(*parts, part)
		return nil
	}
}

func last(into *api.GenerateResponse) api.GenerateResponseFunc {
	return func(part api.GenerateResponse) error {
		*into = part
		return nil
	}
}

func same(got, want any) error {
	a, b := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want)
	if a != b {
		return fmt.Errorf("got %s, expected %s", a, b)
	}
	return nil
}

func status(err error, code int, text string) error {
	var failed api.StatusError
	if !errors.As(err, &failed) {
		return fmt.Errorf("got %T: %v", err, err)
	}
	if failed.StatusCode != code || !strings.Contains(failed.Error(), text) {
		return fmt.Errorf("got %d: %v", failed.StatusCode, failed)
	}
	return nil
}

// idle waits until no request holds a slot.
func idle() error {
	for begun := time.Now(); time.Since(begun) < 10*time.Second; time.Sleep(20 * time.Millisecond) {
		response, err := http.Get(base.String() + "/metrics")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return err
		}
		busy := false
		for line := range strings.Lines(string(text)) {
			busy = busy || strings.HasPrefix(line, "slm_slots{") && strings.Contains(line, `state="busy"`) && !strings.HasSuffix(line, " 0\n")
		}
		if !busy {
			return nil
		}
	}
	return errors.New("a slot is still busy")
}

func main() {
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		report := map[string]any{"name": check.name, "ok": true}
		if err := check.run(ctx); err != nil {
			report["ok"], report["error"] = false, err.Error()
		}
		cancel()
		line, _ := json.Marshal(report)
		fmt.Println(string(line))
	}
}
