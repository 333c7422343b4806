// Package llm holds the words of LLM traffic: the view and in-place patch of a request, replies and
// their chunks, usage, the SSE reader and writer, and one file per dialect. It reads only what the
// gateway decides on; every other byte is carried as it came.
package llm

// An Endpoint is one operation of the OpenAI-style API; its text is also the route's name in
// configuration, policy and logs.
type Endpoint string

const (
	Chat        Endpoint = "chat"
	Completions Endpoint = "completions"
	Embeddings  Endpoint = "embeddings"
	Responses   Endpoint = "responses"
	Rerank      Endpoint = "rerank"
	Score       Endpoint = "score"
	Tokenize    Endpoint = "tokenize"
	Models      Endpoint = "models"
	Other       Endpoint = "other" // what no route takes, in logs and metrics
)

// Path is the one path of a backend that the endpoint is asked on.
func (e Endpoint) Path() string {
	switch e {
	case Chat:
		return "/v1/chat/completions"
	case Tokenize:
		return "/tokenize"
	}
	return "/v1/" + string(e)
}

// WithBody lists the endpoints that take a request body, the busiest first.
var WithBody = []Endpoint{Chat, Completions, Embeddings, Responses, Rerank, Score, Tokenize}
