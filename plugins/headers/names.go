package main

import nexus "github.com/nexus-gateway/nexus/sdk/go"

// The names in this file are those that the gateway keeps to itself. It would refuse them call by call: saying so at
// load is kinder.

// ofReply are the headers that frame the reply or carry the gateway's own word.
func ofReply(name string) bool {
	switch name {
	case "connection", "content-encoding", "content-length", "content-type", "date", "keep-alive", "proxy-authenticate",
		"proxy-connection", "retry-after", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "x-request-id":
		return true
	}
	return hasPrefix(name, "x-ratelimit-")
}

// ofRequest are the headers that frame the request to a backend, say who asks, or are traced by.
func ofRequest(name string) bool {
	switch name {
	case "accept-encoding", "authorization", "connection", "cookie", "date", "expect", "host", "keep-alive", "te", "traceparent",
		"tracestate", "trailer", "upgrade", "x-request-id":
		return true
	}
	return hasPrefix(name, "content-") || hasPrefix(name, "transfer-") || hasPrefix(name, "proxy-")
}

// isSecret reports whether a header's name says that it is a credential. Plugins are not shown these.
func isSecret(name string) bool {
	for _, part := range [...]string{"auth", "cookie", "api-key", "apikey", "api_key", "token", "secret", "password", "credential", "signature"} {
		for i := 0; i+len(part) <= len(name); i++ {
			if name[i:i+len(part)] == part {
				return true
			}
		}
	}
	return false
}

func hasPrefix(s, prefix string) bool { return len(s) >= len(prefix) && s[:len(prefix)] == prefix }

const maxName = 64 // bytes

// headerName returns a name in lower case.
func headerName(name string) (string, error) {
	if name == "" || len(name) > maxName {
		return "", nexus.Error("a header's name has 1 to 64 bytes")
	}
	lower := make([]byte, len(name))
	for i := range lower {
		c := name[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return "", nexus.Error("a header's name is made of letters, digits, - and .")
		}
		lower[i] = c
	}
	return string(lower), nil
}

// asked checks the name of a header of the caller's.
func asked(name string) (string, error) {
	lower, err := headerName(name)
	if err == nil && isSecret(lower) {
		return "", nexus.Error(lower + " is a credential, which no plugin is shown")
	}
	return lower, err
}

// toBackend checks the name of a header to send to a backend.
func toBackend(name string) (string, error) {
	lower, err := headerName(name)
	if err == nil && ofRequest(lower) {
		return "", nexus.Error(lower + " is the gateway's own on the way to a backend")
	}
	return lower, err
}

// forwarded checks the name of a header to pass on from the caller to a backend.
func forwarded(name string) (string, error) {
	if lower, err := asked(name); err != nil {
		return lower, err
	}
	return toBackend(name)
}

// toCaller checks the name of a header of the reply.
func toCaller(name string) (string, error) {
	lower, err := headerName(name)
	if err == nil && ofReply(lower) {
		return "", nexus.Error(lower + " is the gateway's own in a reply")
	}
	return lower, err
}
