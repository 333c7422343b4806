package nexus

import "github.com/nexus-gateway/nexus/sdk/abi"

// A Fact is something known of the call, for on_text, which is told of the text alone.
type Fact uint16

const (
	FactID             Fact = abi.InID
	FactRoute          Fact = abi.InRoute
	FactModel          Fact = abi.InModel
	FactPrincipal      Fact = abi.InPrincipal
	FactTenant         Fact = abi.InTenant
	FactTeam           Fact = abi.InTeam
	FactTier           Fact = abi.InTier
	FactPrincipalLabel Fact = abi.InPrincipalLabel // by name
	FactHeader         Fact = abi.InHeader         // by name in lower case; capability "headers"
)

// An HTTPRequest is sent by HTTP. An empty Method is GET.
type HTTPRequest struct {
	Method, URL string
	Header      [][2]string
	Body        string
}

// An HTTPResponse is what came back.
type HTTPResponse struct {
	Status int
	Header [][2]string
	Body   string
}

// Errors of HTTP.
const (
	ErrNoAnswer   Error = "the request was not answered in time, or by too much"
	ErrNotAllowed Error = "the configuration does not let the plugin ask there"
)
