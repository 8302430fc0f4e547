/** What a physical backup has to know of the server as a whole. Kept in the manifest as `cluster`; a restore reads it. */
import { z } from 'zod'
import type { Manifest } from '../../../model/manifest.ts'

export const clusterFacts = z.object({
  /** Of every database, tablespaces included, as far as the role may see. */
  sizeBytes: z.number(),
  databases: z.array(z.string()),
  /** Outside of the data directory. */
  tablespaces: z.array(z.object({ oid: z.string().regex(/^\d+$/), name: z.string(), location: z.string() })),
  /** The superuser that initdb made: the one who is there in every copy. */
  bootstrapUser: z.string(),
  replication: z.boolean(),
  walLevel: z.string(),
  maxWalSenders: z.int(),
  walSenders: z.int(),
  freeSlots: z.int(),
  walKeepMegabytes: z.int(),
  maxWalMegabytes: z.int(),
  walSegmentBytes: z.int(),
  /** The server keeps what an incremental backup asks for (17 and newer). */
  summarizeWal: z.boolean(),
  pageChecksums: z.boolean(),
  /** Of a standby: 0 while it has replayed all that it received and is receiving; null where nobody knows. */
  standbyLagSeconds: z.int().nullable(),
  /** When it was asked, by its own clock: milliseconds since 1970. */
  clockMs: z.int(),
  /** null where the role may not read them. Outside of the data directory they are not in the backup. */
  dataDirectory: z.string().nullable(),
  configFiles: z.array(z.string()),
})
export type ClusterFacts = z.infer<typeof clusterFacts>

/** Told by the finished pg_basebackup. */
export const backupPositions = z.object({
  startLsn: z.string(),
  stopLsn: z.string(),
  timeline: z.int(),
})

/** Throws where the backup is none of this method. */
export const clusterOf = ({ facts }: Manifest): ClusterFacts => clusterFacts.parse(facts.cluster)

const number = (name: string) =>
  `coalesce((SELECT setting::bigint FROM pg_settings WHERE name = '${name}'), 0)`
const text = (name: string) => `(SELECT setting FROM pg_settings WHERE name = '${name}')`

/** One line of JSON. Settings that the role may not read have no row in pg_settings. */
export const clusterSql = `SET search_path = pg_catalog;
SELECT json_build_object(
  'sizeBytes', (SELECT coalesce(sum(CASE WHEN has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'MEMBER')
      THEN pg_database_size(oid) ELSE 0 END), 0)::bigint FROM pg_database),
  'databases', (SELECT json_agg(datname ORDER BY datname) FROM pg_database),
  'tablespaces', (SELECT coalesce(json_agg(json_build_object('oid', oid::text, 'name', spcname, 'location', pg_tablespace_location(oid)) ORDER BY oid), '[]')
      FROM pg_tablespace WHERE pg_tablespace_location(oid) LIKE '/%'),
  'bootstrapUser', pg_get_userbyid(10),
  'replication', (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user),
  'walLevel', current_setting('wal_level'),
  'maxWalSenders', current_setting('max_wal_senders')::int,
  'walSenders', (SELECT count(*)::int FROM pg_stat_replication),
  'freeSlots', current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots),
  'walKeepMegabytes', ${number('wal_keep_size')},
  'maxWalMegabytes', ${number('max_wal_size')},
  'walSegmentBytes', ${number('wal_segment_size')},
  'summarizeWal', coalesce(${text('summarize_wal')} = 'on', false),
  'pageChecksums', current_setting('data_checksums') = 'on',
  'clockMs', (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
  'standbyLagSeconds', CASE WHEN NOT pg_is_in_recovery() THEN 0
      WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver WHERE pid IS NOT NULL) THEN 0
      WHEN pg_last_xact_replay_timestamp() IS NOT NULL
      THEN greatest(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::int, 0) END,
  'dataDirectory', ${text('data_directory')},
  'configFiles', (SELECT coalesce(json_agg(setting ORDER BY setting), '[]') FROM pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file'))
);
`
