package main

import (
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

const namespace = "0d6c5bd4-6c59-5c0e-9a2b-7f7a1c4b8d10"

var isUUID = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`).MatchString

// Escape makes one token of a subject: bytes outside [A-Za-z0-9_-] become =XX.
func Escape(text string) string {
	var token strings.Builder
	for _, b := range []byte(text) {
		if b == '-' || b == '_' || '0' <= b && b <= '9' || 'A' <= b && b <= 'Z' || 'a' <= b && b <= 'z' {
			token.WriteByte(b)
		} else {
			fmt.Fprintf(&token, "=%02X", b)
		}
	}
	return token.String()
}

// BusSubject is where an event is sent: domain.key.verb.
func BusSubject(eventType, subject string) string {
	domain, verb, _ := strings.Cut(eventType, ".")
	return domain + "." + Escape(subject) + "." + verb
}

// uuid5 makes a UUID of version 5: RFC 9562, section 5.5.
func uuid5(space, name string) string {
	bytes, _ := hex.DecodeString(strings.ReplaceAll(space, "-", ""))
	sum := sha1.Sum(append(bytes, name...))
	sum[6] = sum[6]&0x0f | 0x50
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

// EntityKey is the key of a thing in PostgreSQL: its id if that is a UUID, else a UUID made of it.
func EntityKey(kind, id string) string {
	if lowered := strings.ToLower(id); isUUID(lowered) {
		return lowered
	}
	return uuid5(uuid5(namespace, kind), id)
}

// EventKey is the key of an event, which is also a good Nats-Msg-Id.
func EventKey(source, id string) string {
	if lowered := strings.ToLower(id); isUUID(lowered) {
		return lowered
	}
	return uuid5(uuid5(namespace, "event"), source+"\n"+id)
}

// StateKey is where the bucket keeps a state of an agent; without a key, its status.
func StateKey(agent string, key *string) string {
	token := "_status"
	if key != nil {
		token = Escape(*key)
		if strings.HasPrefix(token, "_") {
			token = "=5F" + token[1:]
		} else if token == "" {
			token = "="
		}
	}
	return EntityKey("agent", agent) + "." + token
}

// vectors are the test vectors of docs/any-language.json.
type vectors struct {
	Tokens []struct {
		Text  string `json:"text"`
		Token string `json:"token"`
	} `json:"tokens"`
	Subjects []struct {
		Type    string `json:"type"`
		Subject string `json:"subject"`
		Bus     string `json:"bus"`
	} `json:"subjects"`
	Entities []struct {
		Kind string `json:"kind"`
		ID   string `json:"id"`
		Key  string `json:"key"`
	} `json:"entities"`
	Events []struct {
		Source string `json:"source"`
		ID     string `json:"id"`
		Key    string `json:"key"`
	} `json:"events"`
	States []struct {
		Agent    string  `json:"agent"`
		StateKey *string `json:"state_key"`
		Key      string  `json:"key"`
	} `json:"states"`
}

// keys computes the test vectors anew.
func keys() any {
	var found vectors
	check(json.NewDecoder(os.Stdin).Decode(&found))
	for at, one := range found.Tokens {
		found.Tokens[at].Token = Escape(one.Text)
	}
	for at, one := range found.Subjects {
		found.Subjects[at].Bus = BusSubject(one.Type, one.Subject)
	}
	for at, one := range found.Entities {
		found.Entities[at].Key = EntityKey(one.Kind, one.ID)
	}
	for at, one := range found.Events {
		found.Events[at].Key = EventKey(one.Source, one.ID)
	}
	for at, one := range found.States {
		found.States[at].Key = StateKey(one.Agent, one.StateKey)
	}
	return found
}
