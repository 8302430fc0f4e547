/** PostgreSQL: logical backups by pg_dump (custom format streamed, directory format staged), physical ones by pg_basebackup. docs/engines/postgresql.md. */
import type { Engine } from '../engine.ts'
import { planArchiving } from './archiving/enable.ts'
import { archivedSoFar, endSegment, leftBy, notInEffect } from './archiving/proof.ts'
import { archivingState } from './archiving/state.ts'
import { streaming } from './archiving/streaming.ts'
import { checks, planBackup } from './backup.ts'
import { writeCanary } from './canary.ts'
import { psql, tools } from './client.ts'
import {
  describe,
  nameBeside,
  type PostgresqlConnection,
  parsePostgresqlUrl,
  postgresqlConnection,
} from './connection.ts'
import { examine } from './examine.ts'
import { dropKept, existing } from './existing.ts'
import { explain } from './explain.ts'
import { archivingChecks, archivingNow } from './physical/archiving.ts'
import { physical } from './physical/index.ts'
import { baseReader, manifestReader, tablespaceReader, walReader } from './physical/reading.ts'
import { probe, probeTarget } from './probe.ts'
import { customReader } from './reading/custom.ts'
import { directoryReader, tarReaders } from './reading/directory.ts'
import { plainReader } from './reading/plain.ts'
import { planRestore } from './restore.ts'
import { restorePoint } from './restore-point.ts'
import { proofs, targetChecks } from './target.ts'

export const postgresql: Engine<PostgresqlConnection> = {
  name: 'postgresql',
  title: 'PostgreSQL',
  tools,
  connection: postgresqlConnection,
  secretFields: ['password'],
  defaultMethod: 'logical',
  parseUrl: parsePostgresqlUrl,
  databaseOf: settings => settings.database,
  describe,
  nameBeside,
  readers: [
    ...[customReader, ...tarReaders, plainReader],
    ...[baseReader, tablespaceReader, walReader, manifestReader],
  ],
  directoryReaders: [directoryReader],
  methods: {
    logical: {
      name: 'logical',
      backupTypes: ['full'],
      toolFormats: ['custom', 'directory'],
      destinations: ['local', 'server', 's3', 'gcs', 'azure'],
      consistency: 'snapshot',
      storage: 'artifacts',
      swap: 'rename',
      checks,
      planBackup,
      existing,
      dropKept,
      planRestore,
      targetChecks,
      proofs,
      examine,
    },
    physical,
  },
  probe,
  probeTarget,
  restorePoint,
  archiving: {
    now: archivingNow,
    checks: archivingChecks,
    state: archivingState,
    plan: planArchiving,
    notInEffect,
    endSegment,
    soFar: archivedSoFar,
    leftBy,
    streaming,
  },
  writeCanary,
  explain,
  statement: (connection, settings, sql, place) =>
    psql(
      connection,
      settings,
      place === 'own'
        ? settings.database
        : place === 'server'
          ? settings.maintenanceDatabase
          : place.database,
      sql,
    ),
}
