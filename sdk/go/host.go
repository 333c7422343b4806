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

// write puts the request into b as records and returns their length.
func (r *HTTPRequest) write() (int, bool) {
	var w records
	if r.Method != "" {
		w.add(abi.HTTPMethod, "", r.Method)
	}
	w.add(abi.HTTPURL, "", r.URL)
	for _, h := range r.Header {
		w.add(abi.HTTPHeader, h[0], h[1])
	}
	if r.Body != "" {
		w.add(abi.HTTPBody, "", r.Body)
	}
	return w.used, !w.full
}

func readHTTPResponse(b []byte) (r HTTPResponse) {
	eachRecord(b, func(id uint16, name, value []byte) bool {
		switch id {
		case abi.HTTPStatus:
			for _, c := range value {
				r.Status = r.Status*10 + int(c-'0')
			}
		case abi.HTTPHeader:
			r.Header = append(r.Header, [2]string{string(name), string(value)})
		case abi.HTTPBody:
			r.Body = string(value)
		}
		return true
	})
	return r
}
