// An agent in Go: sends the events of a JSON array on standard input over NATS, and reads state back.
//
//	go run . send nats://127.0.0.1:4222 < events.json
//	go run . read nats://127.0.0.1:4222 AGENT STATE_KEY
//	go run . keys < docs/any-language.json
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// address is what tells where an event goes; the event itself is sent as it came.
type address struct {
	ID      string `json:"id"`
	Source  string `json:"source"`
	Type    string `json:"type"`
	Subject string `json:"subject"`
}

func send(ctx context.Context, js jetstream.JetStream) any {
	var events []json.RawMessage
	check(json.NewDecoder(os.Stdin).Decode(&events))
	for _, event := range events {
		var to address
		check(json.Unmarshal(event, &to))
		message := nats.NewMsg(BusSubject(to.Type, to.Subject))
		message.Data = event
		message.Header.Set("Content-Type", "application/cloudevents+json")
		_, err := js.PublishMsg(ctx, message, jetstream.WithMsgID(EventKey(to.Source, to.ID)))
		check(err)
	}
	return map[string]int{"sent": len(events)}
}

// state is a document of the bucket.
type state struct {
	Version int64           `json:"v"`
	Value   json.RawMessage `json:"val"`
	Expires *time.Time      `json:"exp"`
	Omitted int             `json:"omitted"`
}

func read(ctx context.Context, js jetstream.JetStream, agent, key string) any {
	bucket, err := js.KeyValue(ctx, "AGENT_STATE")
	check(err)
	entry, err := bucket.Get(ctx, StateKey(agent, &key))
	check(err)
	var found state
	check(json.Unmarshal(entry.Value(), &found))
	if found.Expires != nil && found.Expires.Before(time.Now()) {
		return nil
	}
	return map[string]any{"version": found.Version, "value": found.Value}
}

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	words := os.Args[1:]
	if words[0] == "keys" {
		answer(keys())
		return
	}
	connection, err := nats.Connect(words[1])
	check(err)
	defer connection.Close()
	js, err := jetstream.New(connection)
	check(err)
	switch words[0] {
	case "send":
		answer(send(ctx, js))
	case "read":
		answer(read(ctx, js, words[2], words[3]))
	}
}

func answer(found any) {
	text, err := json.Marshal(found)
	check(err)
	fmt.Println(string(text))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
