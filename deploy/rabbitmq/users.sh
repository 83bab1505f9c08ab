#!/bin/sh
# Users of RabbitMQ, each with what it needs: configure, write, read. May run as often as you like,
# where `rabbitmqctl` may. The passwords come from the environment.
#
# `penstock provision`, run as the operator, makes exchanges and queues; workers need no right to.
# `events` is the setting rabbitmq_exchange; names in capitals are the queues of events.
set -eu

vhost=${RABBITMQ_VHOST:-/}

user() {
  rabbitmqctl add_user "$1" "$2" 2>/dev/null || rabbitmqctl change_password "$1" "$2"
  rabbitmqctl set_permissions --vhost "$vhost" "$1" "$3" "$4" "$5"
}

user penstock_worker "$RABBITMQ_WORKER_PASSWORD" '^$' '^(amq\.default|events)$' '^([A-Z_]+|penstock\.(dead|read))$'
user penstock_agent "$RABBITMQ_AGENT_PASSWORD" '^$' '^events$' '^$'
user penstock_operator "$RABBITMQ_OPERATOR_PASSWORD" '.*' '.*' '.*'
