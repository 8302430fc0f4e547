/**
 * The catalog's tables as Kysely sees them. Text, integers and blobs only, times as ISO text, lists and objects as JSON
 * text, truth as 0 and 1: the same columns work on SQLite and on PostgreSQL.
 */
import type { Generated } from 'kysely'

export interface CatalogTables {
  schema_version: { version: number; applied_at: string }
  /** `away`: where this catalog was moved to, so that it is used no more; `here`: where it came from. */
  moves: { id: string; way: string; place: string; state: string; at: string }
  installation: {
    /** Always 1: one row. */
    id: number
    installation_id: string
    instance_id: string
    /** SHA-256 over machine and path; another value means that this file is a copy. */
    binding: string
    signing_public: string
    created_at: string
  }
  secrets: { owner: string; field: string; nonce: Uint8Array; ciphertext: Uint8Array }
  connections: {
    name: string
    engine: string
    method: string
    settings: string
    address: string
    host: string
    server_identity: string
    server_version: string
    /** Whoever asks for a restore over something here may not approve it. */
    two_person: number
    /** A row of ours is written into its database before each backup. */
    canary: Generated<number>
    request_key: string | null
    created_at: string
  }
  hosts: {
    name: string
    /** JSON of `HostRecord['settings']`. */
    settings: string
    /** JSON list of the keys that somebody agreed to. */
    host_keys: string
    request_key: string | null
    created_at: string
  }
  destinations: {
    name: string
    kind: string
    uri: string
    settings: string
    read_only: number
    /** Name of the one that takes its place while it is away. */
    failover: string | null
    /** 0 or 1; null: nobody has said. */
    off_site: number | null
    /** 0 or 1: only foreign backups are read from it, and nothing is written. */
    foreign_only: Generated<number>
    /** JSON list of key names; null: every key that is current. */
    encrypt_to: string | null
    request_key: string | null
    created_at: string
  }
  /** A backup at a destination was found to open with a key; `kid` is empty for one that is not encrypted. */
  wrapped_keys: { destination: string; backup_id: string; kid: string; connection: string }
  /** Keys that another one took the place of, and those that were put away. */
  key_states: {
    kid: string
    name: string
    successor_kid: string | null
    replaced_at: string | null
    retired_at: string | null
  }
  epochs: { destination: string; epoch: number }
  /** `destination/NAME`, `host/NAME`; rules as in model/bandwidth.ts. */
  bandwidth_limits: { scope: string; rules: string; changed_at: string }
  /** Who transfers within a limit, until when unless it asks again, and what it could use; null: as much as there is. */
  bandwidth_transfers: {
    transfer: string
    scope: string
    until: string
    wanted: number | null
  }
  /** Room in staging: of `bytes` on this file system `written` are used already. */
  staging_promises: {
    operation_id: string
    /** `tools` or `download`. */
    purpose: string
    file_system: string
    bytes: number
    written: number
  }
  /** Places in the log that somebody named; without `lsn`: nobody knows whether it was made. */
  restore_points: {
    connection: string
    name: string
    /** What the server was told to call it: another one for each try. */
    server_name: string
    system_identifier: string | null
    timeline: number | null
    lsn: string | null
    created_at: string | null
    asked_at: string
    asked_by: string
    note: string | null
    /** A time, or `forever`; null: what it needs is not kept for it. */
    keep_until: string | null
  }
  operations: {
    id: string
    kind: string
    state: string
    connection: string
    engine: string
    backup_id: string
    destination: string
    target_database: string | null
    workflow_id: string
    run_id: string | null
    input: string
    phases: string
    checks: string
    error: string | null
    commands: string
    warnings: string
    request_key: string | null
    /** The process that took the request and starts the workflow; the others leave it alone while that one lives. */
    starter: string | null
    created_at: string
    ended_at: string | null
    /** 0 or 1. */
    pause_wanted: number
  }
  /** Hooks of a connection, as one list: JSON of `Hook[]`. */
  hooks: { connection: string; hooks: string }
  hook_runs: {
    operation_id: string
    name: string
    started_at: string
    ended_at: string | null
    /** 0 or 1. */
    ok: number | null
    detail: string
  }
  operation_log: {
    operation_id: string
    /** Counts up within the operation. */
    seq: number
    entry_id: string
    at: string
    source: string
    text: string
  }
  plans: { operation_id: string; digest: string; plan: string }
  approvals: {
    operation_id: string
    /** planning, waiting, approved, used; rejected, expired, withdrawn. */
    state: string
    requested_by: string
    requested_user: string | null
    requested_at: string
    request_reason: string | null
    expires_at: string
    plan_digest: string | null
    target_name: string | null
    approval_id: string | null
    decided_by: string | null
    decided_at: string | null
    decision_reason: string | null
    break_glass: number
    used_by_run: string | null
    used_at: string | null
  }
  destructive_steps: { operation_id: string; step: string; started_at: string; finished_at: string | null }
  kept_copies: {
    operation_id: string
    /** kept, dropped, gone. */
    state: string
    connection: string
    name: string
    identity: string
    look: string
    go_back: string
    keep_until: string
    ended_at: string | null
  }
  attempts: {
    attempt_id: string
    operation_id: string
    backup_id: string
    connection: string
    artifacts: string
    created_at: string
  }
  attempt_destinations: { attempt_id: string; destination: string }
  backups: {
    id: string
    connection: string
    engine: string
    method: string
    type: string
    operation_id: string | null
    server_identity: string
    database_name: string
    encrypted: number
    tool_bytes: number
    stored_bytes: number
    started_at: string
    ended_at: string
    labels: string
    manifest: string
    /** JSON of `ForeignFile`; null: made by a Holdfast. */
    foreign_file: Generated<string | null>
    /** Its key, to find it by. */
    foreign_key: Generated<string | null>
  }
  /** Where a backup lies, or is to lie. */
  copies: {
    backup_id: string
    destination: string
    /** committed, missing, deleted. */
    state: string
    committed_at: string | null
    verified: string | null
    /** Class of the store that its artifacts were moved to; null: none, or it is to be looked at again. */
    tier: string | null
    /** When a scrub could not read it as it lay: in an archive, without its key. Nothing is known of it by that. */
    passed_over_at: string | null
    wanted_until: string | null
    trouble: string | null
    /** The last operation that copies it there by itself. */
    operation_id: string | null
  }
  /** Beside the operations that they are. */
  drills: {
    operation_id: string
    /** Whose backup it is. */
    connection: string
    created_at: string
    /** JSON: rows of the copy by table. */
    row_counts: string
    /** JSON: the row of ours that was found in the copy. */
    canary: string | null
    /** JSON: where the log's replay over it ended. */
    replayed: Generated<string | null>
    /** When what it had made was gone; null: not yet. */
    torn_down_at: string | null
    /** JSON, signed; null: it has not ended, or nobody has written it yet. */
    report: string | null
  }
  /** What open operations use or make. */
  pins: { operation_id: string; backup_id: string; destination: string }
  users: {
    name: string
    role: string
    /** Argon2id in its usual form; null: no password, so no login. */
    password: string | null
    disabled: number
    request_key: string | null
    created_at: string
  }
  tokens: {
    id: string
    /** `api` or `worker`. */
    kind: string
    name: string
    sha256: string
    /** Whose it is; it may never do more than they may. */
    user_name: string | null
    role: string | null
    scopes: string | null
    /** JSON list; null: all of them. */
    connections: string | null
    expires_at: string | null
    created_at: string
    last_used_at: string | null
  }
  sessions: {
    id: string
    sha256: string
    user_name: string
    address: string
    agent: string
    created_at: string
    seen_at: string
    expires_at: string
  }
  /** Keyed hashes of who tried from where: people type passwords into the field for the name. */
  password_tries: { key: string; tries: number; last_at: string; blocked_until: string | null }
  audit: {
    /** 1, 2, 3 … without a gap. */
    seq: number
    at: string
    actor: string
    /** Id of the token or session. */
    credential: string | null
    role: string | null
    address: string | null
    action: string
    object: string
    outcome: string
    detail: string
    /** Over this row and the hash of the row before. */
    hash: string
  }
  audit_head: {
    id: number
    seq: number
    hash: string
    /** The last row that was pruned. */
    pruned_seq: Generated<number>
    pruned_hash: Generated<string>
  }
  /** Changes that were begun and whose outcome is not recorded yet. */
  audit_begun: { id: string; process: string; at: string; entry: string }
  idempotency: {
    key: string
    request_hash: string
    /** The process that took the request; another one may take it up again. */
    taken_by: string
    status: number | null
    body: string | null
    created_at: string
  }
  schedules: {
    /** Random: a schedule made again under a former name is another one. */
    id: string
    name: string
    kind: string
    /** null: of a scrub or a sweep. */
    connection: string | null
    options: string
    spec: string
    jitter_seconds: number
    overlap: string
    catch_up_seconds: number
    start_deadline_seconds: number
    start_at: string | null
    end_at: string | null
    paused: number
    note: string | null
    /** Grows with every edit. */
    revision: number
    /** Every due time up to here has its row in `schedule_runs`. */
    checked_until: string
    /** What Temporal was last told. */
    carried: string | null
    /** When and how Temporal was last found to hold something else. */
    drift: string | null
    request_key: string | null
    created_at: string
    updated_at: string
  }
  schedule_destinations: {
    schedule_id: string
    destination: string
    /** null: it stands in for the others. */
    position: number | null
  }
  schedule_runs: {
    schedule_id: string
    due_at: string
    /** Follows from schedule and due time: one due time never becomes two operations. */
    operation_id: string
    state: string
    taken_at: string | null
    deadline_at: string | null
    reason: string | null
    detail: string | null
    holder: string | null
    triggered_by: string | null
  }
  log_watch: {
    connection: string
    /** JSON: `Watched` of model/log-alarms.ts. */
    watched: string
  }
  log_streams: {
    connection: string
    /** JSON: names. */
    destinations: string
    recipients: string
    slot: string
    spool_limit_bytes: number
    slot_limit_bytes: number
    /** `running`, `stopped`. */
    wanted: string
    /** `keep`, `drop`, `leave`. */
    slot_end: string
    stopped_at: string | null
    /** JSON: `LogStreamState` of model/log-stream.ts. */
    state: string | null
    created_at: string
  }
}
