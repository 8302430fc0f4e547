/** SQLite: the online copy (physical) and `.dump` (logical) through the sqlite3 shell. docs/engines/sqlite.md. */
import { join, parse } from 'node:path'
import type { Engine, Method } from '../engine.ts'
import { checks, planCopy, planDump } from './backup.ts'
import { writeCanary } from './canary.ts'
import { parseSqliteUrl, type SqliteConnection, sqliteConnection } from './connection.ts'
import { examine } from './examine.ts'
import { explain } from './explain.ts'
import { probe, probeTarget } from './probe.ts'
import { readers } from './reading.ts'
import { planRestore } from './restore.ts'
import { writingShell } from './shell.ts'
import { dropKept, existing } from './swap.ts'
import { proofs, targetChecks } from './target.ts'

const common = {
  backupTypes: ['full'],
  destinations: ['local', 'server', 's3', 'gcs', 'azure'],
  consistency: 'snapshot',
  storage: 'artifacts',
  swap: 'in-place',
  checks: (_settings, _request, facts) => checks(facts),
  existing,
  planRestore: (_settings, target, manifest, targetFacts) => planRestore(target, manifest, targetFacts),
  targetChecks: (_settings, target, manifest) => targetChecks(target, manifest),
  proofs: (_settings, target, manifest, place) => proofs(target, manifest, place),
  examine: (_settings, target, manifest, examination) => examine(target, manifest, examination),
  dropKept,
} as const satisfies Partial<Method<SqliteConnection>>

export const sqlite: Engine<SqliteConnection> = {
  name: 'sqlite',
  title: 'SQLite',
  tools: [
    {
      program: 'sqlite3',
      versionArgs: ['-version'],
      purpose: 'copies, dumps and restores',
      packages: { apt: 'sqlite3', dnf: 'sqlite', brew: 'sqlite', apk: 'sqlite' },
    },
  ],
  connection: sqliteConnection,
  secretFields: [],
  defaultMethod: 'physical',
  parseUrl: parseSqliteUrl,
  databaseOf: settings => settings.path,
  describe: settings => `sqlite:${settings.path}`,
  nameBeside: (path, mark) => {
    const { dir, name, ext } = parse(path)
    return join(dir, `${name}-${mark}${ext}`)
  },
  readers,
  directoryReaders: [],
  methods: {
    physical: {
      ...common,
      name: 'physical',
      toolFormats: ['copy'],
      planBackup: (_settings, _request, facts) => planCopy(facts),
    },
    logical: {
      ...common,
      name: 'logical',
      toolFormats: ['dump'],
      planBackup: (_settings, _request, facts) => planDump(facts),
    },
  },
  probe,
  probeTarget,
  explain,
  writeCanary,
  statement: (_connection, settings, sql, place) =>
    writingShell(typeof place === 'string' ? settings.path : place.database, sql),
}
