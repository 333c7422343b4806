package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

func TestNodeSDK(t *testing.T) {
	node := nodeModules(t)
	w := newWorld(t)
	cmd := exec.Command("node", "client.mjs")
	cmd.Dir = node
	cmd.Env = append(os.Environ(), "BASE="+w.base, "KEY="+w.key, "POOR_KEY="+w.poor, "NARROW_KEY="+w.narrow)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
	deadline := time.Now().Add(2 * time.Second)
	for w.backend.Stats().Running > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if s := w.backend.Stats(); s.Running != 0 || s.Aborted == 0 {
		t.Errorf("after an abort the backend has %d calls running, %d aborted", s.Running, s.Aborted)
	}
}

// nodeModules installs the SDK into a copy of testdata/node.
func nodeModules(t *testing.T) string {
	t.Helper()
	_, noNode := exec.LookPath("node")
	_, noNPM := exec.LookPath("npm")
	if noNode != nil || noNPM != nil {
		if thorough {
			t.Fatal("node and npm are not installed")
		}
		t.Skip("SKIPPED: node and npm are not installed")
	}
	if !thorough {
		t.Skip("SKIPPED: installs the openai package from npm; make e2e runs it")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/node")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return dir
}

func TestGoSDK(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	client := openai.NewClient(option.WithBaseURL(w.base+"/v1"), option.WithAPIKey(w.key), option.WithMaxRetries(0))
	ask := func(text string) openai.ChatCompletionNewParams {
		return openai.ChatCompletionNewParams{Model: "mock", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage(text)}}
	}
	whole, err := client.Chat.Completions.New(ctx, ask("안녕하세요"))
	if err != nil || whole.Choices[0].FinishReason != "stop" || whole.Usage.CompletionTokens != 12 {
		t.Fatalf("whole: %v, %+v", err, whole)
	}
	stream := client.Chat.Completions.NewStreaming(ctx, ask("안녕하세요"))
	var sum openai.ChatCompletionAccumulator
	for stream.Next() {
		sum.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil || sum.Choices[0].Message.Content != whole.Choices[0].Message.Content {
		t.Errorf("streamed: %v, %q, want %q", err, sum.Choices[0].Message.Content, whole.Choices[0].Message.Content)
	}
	if models, err := client.Models.List(ctx); err != nil || len(models.Data) != 3 {
		t.Errorf("models: %v, %+v", err, models)
	}
	emb, err := client.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: "mock-embed", Input: openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"하나", "two"}}})
	if err != nil || len(emb.Data) != 2 {
		t.Errorf("embeddings: %v", err)
	}
	for _, tt := range []struct {
		name   string
		model  string
		text   string
		more   []option.RequestOption
		status int
	}{
		{"wrong key", "mock", "x", []option.RequestOption{option.WithAPIKey("nx-wrong-key-0000000000")}, 401},
		{"unknown model", "gpt-9", "x", nil, 404},
		{"denied by policy", "mock", "x", []option.RequestOption{option.WithHeader("x-deny-me", "1")}, 403},
		{"too large", "mock", strings.Repeat("x", 3<<20), nil, 413},
	} {
		params := ask(tt.text)
		params.Model = tt.model
		_, err := client.Chat.Completions.New(ctx, params, tt.more...)
		var e *openai.Error
		if !errors.As(err, &e) || e.StatusCode != tt.status {
			t.Errorf("%s: got %v, want status %d", tt.name, err, tt.status)
		}
	}
	goTools(ctx, t, client)
	goAbort(ctx, t, client, w)
	poor := openai.NewClient(option.WithBaseURL(w.base+"/v1"), option.WithAPIKey(w.poor), option.WithMaxRetries(0))
	var limited *openai.Error
	for range 3 { // one request a minute; the minute may end in between
		if _, err = poor.Chat.Completions.New(ctx, ask("x")); errors.As(err, &limited) {
			break
		}
	}
	if limited == nil || limited.StatusCode != 429 || limited.Response.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: got %v, want 429 with retry-after", err)
	}
	broken := client.Chat.Completions.NewStreaming(ctx, ask("[[mock fault=die-after=3]]"))
	for broken.Next() {
	}
	if broken.Err() == nil {
		t.Error("a stream that broke ended without an error")
	}
}

// goTools asks for a tool call, whole and streamed.
func goTools(ctx context.Context, t *testing.T, client openai.Client) {
	t.Helper()
	params := openai.ChatCompletionNewParams{
		Model: "mock", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("날씨?")},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "weather", Parameters: openai.FunctionParameters{"type": "object", "properties": map[string]any{"city": map[string]any{"type": "string"}}},
		})},
		ToolChoice: openai.ChatCompletionToolChoiceOptionUnionParam{OfAuto: openai.String("required")},
	}
	whole, err := client.Chat.Completions.New(ctx, params)
	if err != nil || len(whole.Choices[0].Message.ToolCalls) != 1 || !json.Valid([]byte(whole.Choices[0].Message.ToolCalls[0].Function.Arguments)) {
		t.Fatalf("tool call: %v, %+v", err, whole)
	}
	stream := client.Chat.Completions.NewStreaming(ctx, params)
	var sum openai.ChatCompletionAccumulator
	for stream.Next() {
		sum.AddChunk(stream.Current())
	}
	if err := stream.Err(); err != nil || sum.Choices[0].Message.ToolCalls[0].Function.Arguments != whole.Choices[0].Message.ToolCalls[0].Function.Arguments {
		t.Errorf("streamed tool call: %v, %+v", err, sum.Choices)
	}
}

// goAbort leaves in mid-stream; the backend must stop.
func goAbort(ctx context.Context, t *testing.T, client openai.Client, w *world) {
	t.Helper()
	before := w.backend.Stats().Aborted
	ctx, leave := context.WithCancel(ctx)
	stream := client.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{
		Model: "mock", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("[[mock tokens=5000 pace=10ms]]")},
	})
	for range 3 {
		if !stream.Next() {
			t.Fatal(stream.Err())
		}
	}
	leave()
	_ = stream.Close()
	waitUntil(t, func() bool { s := w.backend.Stats(); return s.Running == 0 && s.Aborted == before+1 })
}
