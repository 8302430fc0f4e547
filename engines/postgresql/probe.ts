/** Identity, version and shape of a PostgreSQL database, and of a server that a restore writes to. */
import { HoldfastError } from '../../model/errors.ts'
import type { Image } from '../../model/records.ts'
import type { MethodName } from '../../model/types.ts'
import type { Command, CommandResult, Probe, ServerFacts } from '../engine.ts'
import { answer } from './answer.ts'
import { psql } from './client.ts'
import { isHere, type PostgresqlConnection } from './connection.ts'
import { databaseFacts, databaseSql, serverFacts, serverSql, type TargetServerFacts } from './facts.ts'
import { archivingSql, readArchiving } from './physical/archiving.ts'
import { clusterFacts, clusterSql } from './physical/facts.ts'
import { probePrograms } from './physical/probe.ts'

const programs = { logical: ['pg_dump', 'pg_restore'], physical: ['pg_basebackup'] } as const
const versionsOf = (method: MethodName): Record<string, Command> =>
  Object.fromEntries(programs[method].map(name => [name, { stages: [{ argv: [name, '--version'] }] }]))

export function probe(
  connection: string,
  settings: PostgresqlConnection,
  method: MethodName = 'logical',
): Probe<ServerFacts> {
  const place = `database "${settings.database}" on ${settings.host}:${settings.port}`
  return {
    commands: {
      ...versionsOf(method),
      server: psql(connection, settings, settings.database, serverSql),
      database: psql(connection, settings, settings.database, databaseSql),
      ...(method === 'physical'
        ? {
            cluster: psql(connection, settings, settings.database, clusterSql),
            archiving: psql(connection, settings, settings.database, archivingSql),
          }
        : {}),
    },
    read(outputs) {
      const said = answer(outputs.server, `asking ${place} who it is`)
      const server = serverFacts.parse(said)
      // pg_settings hides the row from roles that may not read it.
      const directory = isHere(settings) ? said.dataDirectory : null
      const read = answer(outputs.database, `reading the catalog of ${place}`)
      const database = databaseFacts.parse(read)
      const cluster =
        outputs.cluster && clusterFacts.parse(answer(outputs.cluster, `reading the settings of ${place}`))
      const archiving =
        outputs.archiving && readArchiving(settings, outputs.archiving, `asking ${place} how it archives`)
      return {
        identity: identityOf(settings, server),
        version: server.version,
        database: settings.database,
        sizeBytes: cluster?.sizeBytes ?? Number(read.sizeBytes),
        ...(typeof directory === 'string' ? { directory } : {}),
        facts: { server, database, ...(cluster ? { cluster } : {}), ...(archiving ? { archiving } : {}) },
        tools: toolVersions(outputs, method),
      }
    },
  }
}

/** Through the maintenance database: the connection's own may be what was lost. A physical restore asks the host alone. */
export function probeTarget(
  connection: string,
  settings: PostgresqlConnection,
  method: MethodName = 'logical',
  image?: Image,
): Probe<ServerFacts> {
  if (method === 'physical') return probePrograms(settings, image)
  return {
    commands: {
      ...versionsOf(method),
      server: psql(connection, settings, settings.maintenanceDatabase, serverSql),
    },
    read(outputs) {
      const place = `the server ${settings.host}:${settings.port} (its database "${settings.maintenanceDatabase}")`
      const server = serverFacts.parse(answer(outputs.server, `asking ${place} who it is`))
      return {
        identity: identityOf(settings, server),
        version: server.version,
        database: settings.database,
        sizeBytes: 0,
        facts: { server },
        tools: toolVersions(outputs, method),
      }
    },
  }
}

/** The forms of this machine's own address are one server. */
function identityOf(settings: PostgresqlConnection, server: TargetServerFacts): string {
  const place = `${isHere(settings) ? 'localhost' : settings.host.toLowerCase()}:${settings.port}`
  return server.systemIdentifier === ''
    ? `postgresql:${place}`
    : `postgresql:${server.systemIdentifier}/${place}`
}

/** Those that are installed; checks say what is missing. */
function toolVersions(
  outputs: Record<string, CommandResult>,
  method: MethodName,
): { name: string; version: string }[] {
  return programs[method].flatMap(name => {
    // Asked and stopped by somebody is not the same as not installed.
    if (outputs[name]?.exits.some(code => code > 128)) {
      throw new HoldfastError('tool.interrupted', `Asking ${name} for its version: it was ended by a signal.`)
    }
    const version = versionOf(outputs[name])
    return version === undefined ? [] : [{ name, version }]
  })
}

/** `pg_dump (PostgreSQL) 15.18 (Debian …)` → `15.18`. */
export const versionOf = (result: CommandResult | undefined): string | undefined =>
  /\(PostgreSQL\) (\d+[^\s]*)/.exec(result?.stdout ?? '')?.[1]

export const majorOf = (version: string | undefined): number => Number.parseInt(version ?? '0', 10)
