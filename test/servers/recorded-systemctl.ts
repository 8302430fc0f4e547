/**
 * A recorded systemctl: what it says of a unit, and how it refuses one that is masked, are taken from systemd 252. It starts a real
 * server. There is no systemd where Holdfast is made.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

export interface RecordedSystemctl {
  /** A directory for the PATH. */
  path: string
  isMasked(): Promise<boolean>
  /** What was changed, in order. */
  changes(): Promise<string[]>
  /** What `show` says from now on. */
  set(properties: Record<string, string>): Promise<void>
}

export async function recordedSystemctl(
  path: string,
  server: { unit: string; directory: string; pgCtl: string[]; log: string; port: number },
): Promise<RecordedSystemctl> {
  await mkdir(path)
  const [log, masked, said] = ['changes', 'masked', 'said'].map(name => join(path, name))
  await writeFile(log ?? '', '')
  await writeFile(said ?? '', '')
  await writeFile(
    join(path, 'systemctl'),
    `#!/bin/sh
cd /
for unit do :; done
[ "$unit" = '${server.unit}' ] || { echo "Unit $unit could not be found." >&2; exit 5; }
pid=$(head -n 1 '${server.directory}/postmaster.pid' 2>/dev/null || echo 0)
case $1 in
show)
  if grep -q . '${said}'; then
    . '${said}'
  fi
  [ ! -e '${masked}' ] || : "\${LoadState=masked}" "\${UnitFileState=masked}"
  : "\${LoadState=loaded}" "\${FragmentPath=/lib/systemd/system/postgresql@.service}" "\${UnitFileState=enabled-runtime}" "\${MainPID=$pid}"
  case $2 in
  --property=MainPID) echo "$MainPID" ;;
  *) printf '%s\\n' "MainPID=$MainPID" "LoadState=$LoadState" "FragmentPath=$FragmentPath" "UnitFileState=$UnitFileState" ;;
  esac
  ;;
mask) echo mask >> '${log}'; : > '${masked}' ;;
unmask) echo unmask >> '${log}'; rm -f '${masked}' ;;
start)
  if [ -e '${masked}' ]; then
    echo 'start refused' >> '${log}'
    echo "Failed to start $unit: Unit $unit is masked." >&2
    exit 1
  fi
  echo start >> '${log}'
  [ "$pid" = 0 ] || exit 0
  ${server.pgCtl.join(' ')} start -s -w -D '${server.directory}' -l '${server.log}' -o '-p ${server.port}' < /dev/null ||
    { echo "Job for $unit failed because the control process exited with error code." >&2; exit 1; }
  ;;
*) echo "Unknown command verb $1." >&2; exit 1 ;;
esac
`,
    { mode: 0o755 },
  )
  const lines = async (file = '') => (await readFile(file, 'utf8')).split('\n').filter(Boolean)
  return {
    path,
    isMasked: () =>
      readFile(masked ?? '').then(
        () => true,
        () => false,
      ),
    changes: () => lines(log),
    set: properties =>
      writeFile(
        said ?? '',
        Object.entries(properties)
          .map(([name, value]) => `${name}='${value}'\n`)
          .join(''),
      ),
  }
}
