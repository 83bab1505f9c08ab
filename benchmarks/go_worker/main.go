// A hand-written worker in Go, to compare Penstock with: it stores the history and nothing else.
//
// `go_worker JOB`, where JOB is a Job of benchmarks/rival.py as JSON. Each batch is written by COPY;
// if an event is stored already, by COPY to a temporary table and a merge. Then it is acknowledged.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	fetched  = 5_000 // messages in a batch
	writers  = 4     // batches of a stream at a time, each with a connection of its own
	waiting  = 5 * time.Millisecond
	repeated = "23505" // SQLSTATE unique_violation
)

type job struct {
	DSN     string   `json:"dsn"`
	Streams []string `json:"streams"`
	Durable string   `json:"durable"`
	NatsURL string   `json:"nats_url"`
}

type table struct {
	schema, name string
	columns      []string
}

var (
	heartbeats = table{"agents", "heartbeat", []string{
		"event_id", "occurred_at", "agent_id", "status", "load", "metrics"}}
	events = table{"events", "log", []string{
		"domain", "event_id", "occurred_at", "event_type", "entity_id", "version", "source", "corr", "data"}}
	messages = table{"messages", "message", []string{
		"message_id", "sent_at", "recipient", "to_kind", "to_id", "from_id", "kind", "subject",
		"payload", "priority", "corr", "status"}}
	tables = []*table{&heartbeats, &events, &messages}
)

type envelope struct {
	ID            string          `json:"id"`
	Type          string          `json:"type"`
	Source        string          `json:"source"`
	Subject       string          `json:"subject"`
	Time          time.Time       `json:"time"`
	Data          json.RawMessage `json:"data"`
	Sequence      int64           `json:"sequence"`
	CorrelationID *string         `json:"correlationid"`
}

type heartbeat struct {
	Status  *string         `json:"status"`
	Load    *float64        `json:"load"`
	Metrics json.RawMessage `json:"metrics"`
}

type message struct {
	MessageID string          `json:"message_id"`
	ToKind    string          `json:"to_kind"`
	Kind      string          `json:"kind"`
	Payload   json.RawMessage `json:"payload"`
	ToID      *string         `json:"to_id"`
	FromID    *string         `json:"from_id"`
	Subject   *string         `json:"subject"`
	Priority  *int16          `json:"priority"`
}

func uuid(text string) (found pgtype.UUID, err error) {
	err = found.Scan(text)
	return found, err
}

// row says into which table an event goes, and what stands there.
func row(body []byte) (*table, []any, error) {
	var e envelope
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, nil, err
	}
	switch e.Type {
	case "agents.heartbeat":
		return heartbeatRow(&e)
	case "messages.sent":
		return messageRow(&e)
	}
	id, err := uuid(e.ID)
	domain, _, _ := strings.Cut(e.Type, ".")
	return &events, []any{domain, id, e.Time, e.Type, e.Subject, e.Sequence, e.Source,
		e.CorrelationID, []byte(e.Data)}, err
}

func heartbeatRow(e *envelope) (*table, []any, error) {
	var h heartbeat
	id, err := uuid(e.ID)
	agent, wrong := uuid(e.Subject)
	err = errors.Join(err, wrong, json.Unmarshal(e.Data, &h))
	return &heartbeats, []any{id, e.Time, agent, h.Status, h.Load, []byte(h.Metrics)}, err
}

func messageRow(e *envelope) (*table, []any, error) {
	priority := int16(4)
	m := message{Priority: &priority}
	err := json.Unmarshal(e.Data, &m)
	id, wrong := uuid(m.MessageID)
	return &messages, []any{id, e.Time, e.Subject, m.ToKind, m.ToID, m.FromID, m.Kind, m.Subject,
		[]byte(m.Payload), m.Priority, e.CorrelationID, "sent"}, errors.Join(err, wrong)
}

type rows map[*table][][]any

// store writes a batch in one transaction: by COPY, and if something is there already, by a merge.
func store(ctx context.Context, connection *pgx.Conn, found rows) error {
	err := transact(ctx, connection, found, copyRows)
	var refused *pgconn.PgError
	if errors.As(err, &refused) && refused.Code == repeated {
		return transact(ctx, connection, found, mergeRows)
	}
	return err
}

type writing func(context.Context, pgx.Tx, *table, [][]any) error

func transact(ctx context.Context, connection *pgx.Conn, found rows, write writing) error {
	return pgx.BeginFunc(ctx, connection, func(tx pgx.Tx) error {
		for _, table := range tables { // always in one order, so that nobody waits in a circle
			if records := found[table]; len(records) > 0 {
				if err := write(ctx, tx, table, records); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func copyRows(ctx context.Context, tx pgx.Tx, to *table, records [][]any) error {
	name := pgx.Identifier{to.schema, to.name}
	_, err := tx.CopyFrom(ctx, name, to.columns, pgx.CopyFromRows(records))
	return err
}

func mergeRows(ctx context.Context, tx pgx.Tx, to *table, records [][]any) error {
	columns, whole := strings.Join(to.columns, ", "), to.schema+"."+to.name
	stage := "CREATE TEMP TABLE stage ON COMMIT DROP AS SELECT " + columns + " FROM " + whole +
		" WITH NO DATA"
	if _, err := tx.Exec(ctx, stage); err != nil {
		return err
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"stage"}, to.columns, pgx.CopyFromRows(records))
	if err != nil {
		return err
	}
	merge := "INSERT INTO " + whole + " (" + columns + ") SELECT " + columns +
		" FROM stage ON CONFLICT DO NOTHING"
	if _, err = tx.Exec(ctx, merge); err != nil {
		return err
	}
	_, err = tx.Exec(ctx, "DROP TABLE stage")
	return err
}

// drain fetches, writes and acknowledges, again and again.
func drain(ctx context.Context, consumer jetstream.Consumer, connection *pgx.Conn) error {
	for {
		batch, err := consumer.FetchNoWait(fetched)
		if err != nil {
			return err
		}
		found, delivered := rows{}, make([]jetstream.Msg, 0, fetched)
		for message := range batch.Messages() {
			delivered = append(delivered, message)
			if table, record, err := row(message.Data()); err == nil {
				found[table] = append(found[table], record)
			} // what cannot be read is dropped; Penstock keeps it as a dead letter
		}
		if len(delivered) == 0 {
			time.Sleep(waiting)
			continue
		}
		if err := store(ctx, connection, found); err != nil {
			return err
		}
		for _, message := range delivered {
			if err := message.Ack(); err != nil {
				return err
			}
		}
	}
}

func run(ctx context.Context, asked job) error {
	client, err := nats.Connect(asked.NatsURL)
	if err != nil {
		return err
	}
	js, err := jetstream.New(client)
	if err != nil {
		return err
	}
	failed := make(chan error)
	for _, stream := range asked.Streams {
		consumer, err := js.Consumer(ctx, stream, asked.Durable)
		if err != nil {
			return err
		}
		for range writers {
			connection, err := pgx.Connect(ctx, asked.DSN)
			if err != nil {
				return err
			}
			go func() { failed <- drain(ctx, consumer, connection) }()
		}
	}
	return <-failed
}

func main() {
	var asked job
	if err := json.Unmarshal([]byte(os.Args[1]), &asked); err != nil {
		log.Fatal(err)
	}
	log.Fatal(run(context.Background(), asked))
}
