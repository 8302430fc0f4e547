#!/bin/sh
# Makes the namespace and the search attributes that Holdfast's operations carry. May be run again.
set -eu

namespace=$TEMPORAL_NAMESPACE
# The frontend answers before the rest of the cluster does.
tries=0
until temporal operator cluster health >/dev/null 2>&1 && temporal operator namespace list >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "Temporal at $TEMPORAL_ADDRESS does not answer." >&2; exit 1; }
  sleep 1
done

temporal operator namespace describe --namespace "$namespace" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$namespace" --retention "$RETENTION"

# A new namespace is known to every part of the cluster within seconds.
tries=0
until known=$(temporal operator search-attribute list --namespace "$namespace" 2>/dev/null); do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "The namespace $namespace does not appear." >&2; exit 1; }
  sleep 1
done
for name in HoldfastConnection HoldfastEngine HoldfastOperation HoldfastBackup HoldfastState; do
  case $known in
  *"$name"*) ;;
  *) temporal operator search-attribute create --namespace "$namespace" --name "$name" --type Keyword ;;
  esac
done
echo "namespace $namespace is ready"
