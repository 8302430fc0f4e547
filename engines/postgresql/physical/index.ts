/** The method `physical`: the whole server, by pg_basebackup. docs/engines/postgresql.md, Physical. */
import { HoldfastError } from '../../../model/errors.ts'
import type { Method } from '../../engine.ts'
import type { PostgresqlConnection } from '../connection.ts'
import { majorOf } from '../probe.ts'
import { checks, collect, planBackup, toolFormats } from './backup.ts'
import { clusterOf } from './facts.ts'
import { mayBeParent } from './incremental.ts'
import { proofs, targetChecks } from './prove.ts'
import { existing, planRestore, serverPrograms } from './restore.ts'

export const physical: Method<PostgresqlConnection> = {
  name: 'physical',
  backupTypes: ['full', 'incremental'],
  toolFormats,
  destinations: ['local', 'server', 's3', 'gcs', 'azure'],
  consistency: 'point-in-time',
  storage: 'artifacts',
  swap: 'none',
  directoryUrl: 'postgres://postgres@localhost/postgres',
  checks,
  planBackup,
  collect,
  mayBeParent,
  existing: (_settings, _connection, database) => existing(database),
  planRestore: (_settings, target, manifest, facts) => planRestore(target, manifest, facts),
  targetChecks: (_settings, target, manifest) => targetChecks(target, manifest),
  proofs(_settings, target, manifest, _place, targetFacts) {
    if (!targetFacts)
      throw new HoldfastError('internal', 'A physical restore is proven with the programs of its plan.')
    return proofs(target, manifest, serverPrograms(manifest, targetFacts))
  },
  nameBeside: (manifest, mark) =>
    `${clusterOf(manifest).dataDirectory ?? `/var/lib/postgresql/${majorOf(manifest.server.version)}/main`}_${mark}`,
  dropKept() {
    throw new HoldfastError('internal', 'A physical restore keeps nothing aside.')
  },
}
