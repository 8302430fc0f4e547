/** The method `physical`: the whole server, by pg_basebackup. docs/engines/postgresql.md, Physical. */
import { HoldfastError } from '../../../model/errors.ts'
import type { Method } from '../../engine.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { majorOf } from '../probe.ts'
import { checks, collect, planBackup, toolFormats } from './backup.ts'
import { existing } from './existing.ts'
import { clusterOf } from './facts.ts'
import { mayBeParent } from './incremental.ts'
import { examine, proofs, targetChecks } from './prove.ts'
import { explainReplay, readReplayed, replayedSoFar, resultOf, servedAs } from './recovery.ts'
import { placesOf, planRestore, serverPrograms } from './restore.ts'
import { dropKept } from './swap.ts'

export const physical: Method<PostgresqlConnection> = {
  name: 'physical',
  backupTypes: ['full', 'incremental'],
  toolFormats,
  destinations: ['local', 'server', 's3', 'gcs', 'azure'],
  consistency: 'point-in-time',
  storage: 'artifacts',
  swap: 'directory',
  fromImages: true,
  directoryUrl: 'postgres://postgres@localhost/postgres',
  checks,
  planBackup,
  collect,
  mayBeParent,
  existing: (settings, _connection, database, allow) => existing(settings, database, allow),
  planRestore: (_settings, target, manifest, facts) => planRestore(target, manifest, facts),
  targetChecks,
  proofs(_settings, target, manifest, place, targetFacts) {
    if (!targetFacts)
      throw new HoldfastError('internal', 'A physical restore is proven with the programs of its plan.')
    return proofs(target, manifest, serverPrograms(manifest, targetFacts, target), place)
  },
  examine: (_settings, target, manifest, examination, targetFacts) =>
    examine(target, manifest, serverPrograms(manifest, targetFacts, target), examination),
  recovery: {
    served: servedAs,
    files(target) {
      const places = placesOf(target)
      return { progress: `${places.socket}/at`, result: resultOf(places) }
    },
    soFar: replayedSoFar,
    read: readReplayed,
    explain: explainReplay,
  },
  nameBeside: (manifest, mark) =>
    `${clusterOf(manifest).dataDirectory ?? `/var/lib/postgresql/${majorOf(manifest.server.version)}/main`}_${mark}`,
  dropKept: (_settings, _connection, kept) => dropKept(kept),
}
