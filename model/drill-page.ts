/**
 * The report of a drill as one page of HTML for an auditor: nothing from elsewhere, no script, fit to be printed. The signed document
 * itself lies in it, so that the page can be checked long after. Everything that comes from a report is escaped.
 */
import { type DrillReport, type RtoStep, rtoSteps, type SignedDrillReport, stepOf } from './drill-report.ts'

export const drillPageStyle = `
:root{color-scheme:light;--line:#ccc;--dim:#666;--good:#17663a;--bad:#a3161c;--warn:#8a5a00}
body{font:14px/1.45 system-ui,sans-serif;color:#111;background:#fff;max-width:56rem;margin:0 auto;padding:1.2rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.05rem;margin:1.6rem 0 .4rem;border-bottom:1px solid var(--line)}
table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;overflow-wrap:anywhere}
th{font-weight:600}tr{break-inside:avoid}.number{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
.answer,.name{white-space:nowrap;width:1%}.answer{font-weight:600}.facts th{width:9rem}.checks th{width:16rem}.steps td:last-child{width:99%}.rows td:first-child{width:60%}
.total td,.total th{border-top:1px solid var(--line)}svg.swatch{display:inline-block;width:.8em;height:.8em;margin-right:.5em}
code{font:12px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}.dim{color:var(--dim)}
.verdict{display:inline-block;font-weight:700;font-size:1.1rem;padding:.15rem .7rem;border:2px solid;border-radius:.3rem}
.passed,.pass{color:var(--good)}.failed,.fail{color:var(--bad)}.cancelled,.warn{color:var(--warn)}
.figures{display:flex;gap:2.5rem;margin:.8rem 0;break-inside:avoid}.figures b{display:block;font-size:1.4rem}
svg{width:100%;height:auto;overflow:visible}svg text{font:12px system-ui,sans-serif;fill:#111;paint-order:stroke;stroke:#fff;stroke-width:4px}svg .scale{fill:#666}svg .mark{fill:#111;font-weight:600}
@media print{body{max-width:none;padding:0;print-color-adjust:exact}h2{break-after:avoid}svg{break-inside:avoid}}
`

const escaped = (text: string): string =>
  text.replace(/\p{Cc}/gu, ' ').replace(/[&<>"']/g, character => `&#${character.codePointAt(0)};`)

export function drillPage(report: SignedDrillReport): string {
  const { verdict, backup, drill } = report
  const title = `Drill of ${backup.connection}: ${verdict}`
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title><style>${drillPageStyle}</style></head>
<body>
<h1>Restore drill of ${escaped(backup.connection)}</h1>
<p class="dim">${escaped(time(report.startedAt))} · ${escaped(drill)}</p>
<p><span class="verdict ${verdict}">${verdict}</span> ${escaped(verdictWords(report))}</p>
${figures(report)}
${report.error === null ? '' : section('Why it failed', `<p><code>${escaped(report.error.code)}</code> ${escaped(report.error.detail)}</p><p>${escaped(report.error.hint)}</p>`)}
${section('Where the time went', timeline(report))}
${section('What was restored', facts(backupFacts(report)))}
${section('What was checked', checks(report))}
${report.warnings.length === 0 ? '' : section('Warnings', `<ul>${report.warnings.map(one => `<li>${escaped(one)}</li>`).join('')}</ul>`)}
${report.rows.length === 0 ? '' : section('Rows', rows(report))}
${section('Signature', signature(report))}
<script type="application/json" id="report">${embedded(report)}</script>
</body>
</html>
`
}

const section = (title: string, content: string): string => `<h2>${escaped(title)}</h2>\n${content}`

const verdictWords = ({ verdict, tornDownAt }: DrillReport): string => {
  const words = {
    passed: 'The backup was restored to a throw-away copy and proven there.',
    failed: 'The backup was not restored as it has to be.',
    cancelled: 'Somebody ended it before it had shown anything.',
  }[verdict]
  return `${words} ${tornDownAt === null ? 'What it made was still there when this was written.' : 'What it made was removed.'}`
}

const figure = (label: string, value: string, words: string): string =>
  `<div><span class="dim">${escaped(label)}</span><b>${escaped(value)}</b><span class="dim">${escaped(words)}</span></div>`

function figures({ rto, rpo, backup }: DrillReport): string {
  const which = backup.newest ? 'the newest backup' : 'an older backup, which was chosen'
  const words =
    rpo.by === 'replay'
      ? 'age of the last transaction that was replayed'
      : `age of ${which}${rpo.by === 'canary' ? ', by the canary found in it' : ''}`
  return `<div class="figures">${figure('RTO, measured', rto.totalMs === null ? 'not reached' : duration(rto.totalMs), 'until the copy was proven')}${figure('RPO, measured', duration(rpo.ageMs), words)}</div>`
}

const stepColours: Record<RtoStep, string> = {
  detect: '#9db8d9',
  download: '#6f9bd1',
  restore: '#3f74b5',
  replay: '#2f4f86',
  prove: '#4d9a6a',
}
const otherColour = '#bbb'
const failedColour = '#a3161c'
const rowHeight = 22
const top = 18
const left = 110
const width = 640

/** A bar per phase, on one scale; a line where the copy was proven: that is where a recovery ends. */
function timeline({ phases, rto, startedAt, endedAt }: DrillReport): string {
  const begin = Date.parse(startedAt)
  const whole = Math.max(1, Date.parse(endedAt) - begin)
  const at = (iso: string) => left + (Math.min(whole, Math.max(0, Date.parse(iso) - begin)) / whole) * width
  const bars = phases.map((phase, index) => {
    const ended = phase.endedAt ?? endedAt
    const x = at(phase.startedAt)
    const length = Math.max(2, at(ended) - x)
    const y = top + index * rowHeight
    const step = stepOf[phase.phase]
    const fill =
      phase.state === 'failed' ? failedColour : step === undefined ? otherColour : stepColours[step]
    const took = duration(Math.max(0, Date.parse(ended) - Date.parse(phase.startedAt) - phase.heldMs))
    // Where the bar leaves no room behind it, the words stand before it.
    const behind = x + length < left + width - 70
    const label = behind
      ? `<text x="${fixed(x + length + 5)}" y="${y + 15}">${escaped(took)}</text>`
      : `<text x="${fixed(x - 5)}" y="${y + 15}" text-anchor="end">${escaped(took)}</text>`
    return `<text x="0" y="${y + 15}">${escaped(phase.phase)}</text><rect x="${fixed(x)}" y="${y + 4}" width="${fixed(length)}" height="${rowHeight - 8}" fill="${fill}"/>${label}`
  })
  const height = top + phases.length * rowHeight + 20
  const axis = `<line x1="${left}" y1="${height - 18}" x2="${left + width}" y2="${height - 18}" stroke="#999"/><text class="scale" x="${left}" y="${height - 4}">0</text><text class="scale" x="${left + width}" y="${height - 4}" text-anchor="end">${escaped(duration(whole))}</text>`
  const chart = `<svg viewBox="0 0 ${left + width} ${height}" role="img" aria-label="Phases of the drill over time">${provenLine(phases, rto, at, height)}${bars.join('')}${axis}</svg>`
  const cells = rtoSteps.map(step => {
    const ms = rto.steps.find(one => one.step === step)?.ms ?? 0
    const name = `${swatch(stepColours[step])}${step}`
    return `<tr><th class="name">${name}</th><td class="number">${escaped(ms === 0 ? '–' : duration(ms))}</td><td class="dim">${stepWords[step]}</td></tr>`
  })
  const total = `<tr class="total"><th class="name">RTO</th><td class="number">${escaped(rto.totalMs === null ? '–' : duration(rto.totalMs))}</td><td class="dim">without what stood still; examining and removing the copy (grey) are no part of a recovery</td></tr>`
  return `${chart}\n<table class="steps">${cells.join('')}${total}</table>`
}

// An attribute, as the page allows no style but its own sheet.
const swatch = (colour: string): string =>
  `<svg class="swatch" viewBox="0 0 1 1"><rect width="1" height="1" fill="${colour}"/></svg>`

function provenLine(
  phases: DrillReport['phases'],
  rto: DrillReport['rto'],
  at: (iso: string) => number,
  height: number,
): string {
  const proven = phases.findLast(({ phase, state }) => phase === 'prove' && state === 'done')?.endedAt
  if (rto.totalMs === null || proven == null) return ''
  const x = fixed(at(proven))
  const anchor = at(proven) > left + width / 2 ? 'end' : 'start'
  return `<line x1="${x}" y1="${top - 4}" x2="${x}" y2="${height - 18}" stroke="#111" stroke-dasharray="3 3"/><text class="mark" x="${x}" y="${top - 7}" text-anchor="${anchor}">proven: RTO ${escaped(duration(rto.totalMs))}</text>`
}

const stepWords: Record<RtoStep, string> = {
  detect: 'the backup, its signature, its key and the place for the copy were looked at',
  download: 'what it holds was brought to the host of the tools; – where it flows straight into the tool',
  restore: 'the copy was made, with the download where that is one pass',
  replay: 'the archived log was replayed over it, to the moment that was asked for',
  prove: 'the copy was started and compared with what was backed up',
}

function backupFacts({ backup, target, rpo, moment }: DrillReport): [string, string][] {
  const replayed = moment?.replayed
  return [
    [moment === null ? 'backup' : 'base backup', backup.id],
    ...(moment === null ? [] : [['recovered to', moment.target] satisfies [string, string]]),
    ...(replayed
      ? [
          [
            'replay ended',
            `${replayed.stoppedAt ?? 'with the log'}${replayed.lsn === null ? '' : `, read to ${replayed.lsn}`}, timeline ${replayed.timeline}`,
          ] satisfies [string, string],
        ]
      : []),
    ['of', `${backup.database} (${backup.engine} ${backup.serverVersion}, ${backup.method}, ${backup.type})`],
    ['data as of', time(rpo.dataAsOf)],
    [
      'size',
      `${bytes(backup.toolBytes)} unpacked, ${bytes(backup.storedBytes)} stored${backup.encrypted ? ', encrypted' : ''}`,
    ],
    [
      'copy made on',
      `${target.connection}${target.sameServer ? ': the server that was backed up; nothing is shown of another machine' : ''}${target.image === null ? '' : `; started by the programs of the image ${target.image}`}`,
    ],
    ['time limit', target.maxSeconds === null ? 'none' : duration(target.maxSeconds * 1000)],
  ]
}

const facts = (pairs: readonly [string, string][]): string =>
  `<table class="facts">${pairs.map(([name, value]) => `<tr><th>${escaped(name)}</th><td>${escaped(value)}</td></tr>`).join('')}</table>`

const answerWords = { pass: '✓ passed', warn: '! warned', fail: '✗ failed' } as const

function checks({ checks: all, target }: DrillReport): string {
  const lines = all.map(
    ({ answer, title, detail }) =>
      `<tr><td class="answer ${answer}">${answerWords[answer]}</td><th>${escaped(title)}</th><td>${escaped(detail)}</td></tr>`,
  )
  const depth = target.thorough
    ? ''
    : '<p class="dim">Quick: rows were not counted, structures not looked into.</p>'
  return lines.length === 0
    ? '<p>Nothing: it ended before.</p>'
    : `<table class="checks">${lines.join('')}</table>${depth}`
}

function rows({ rows: counted }: DrillReport): string {
  const lines = counted.map(
    ({ table, rows: found, expected }) =>
      `<tr><td>${escaped(table)}</td><td class="number">${grouped(found)}</td><td class="number dim">${expected === null ? '–' : grouped(expected)}</td></tr>`,
  )
  return `<table class="rows"><tr><th></th><th class="number">in the copy</th><th class="number">estimated when it was backed up</th></tr>${lines.join('')}</table>`
}

const signature = ({ installationId, fingerprint, signature: jws }: SignedDrillReport): string =>
  `<p>Signed by installation <code>${escaped(installationId)}</code>, key <code>${escaped(fingerprint)}</code>. Compare that with the fingerprint you know. The signed document is in the source of this page (<code>id="report"</code>).</p><p><code>${escaped(jws)}</code></p>`

/** JSON that no HTML parser sees the end of. */
const embedded = (report: SignedDrillReport): string =>
  JSON.stringify(report).replace(
    /[<>&\u2028\u2029]/g,
    character => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

const grouped = (value: number): string => value.toLocaleString('en-US')

const fixed = (value: number): string => value.toFixed(1)

const time = (iso: string): string => `${iso.slice(0, 19).replace('T', ' ')} UTC`

function duration(ms: number): string {
  const seconds = ms / 1000
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s`
  const minutes = Math.floor(seconds / 60)
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`
  const hours = Math.floor(minutes / 60)
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`
}

function bytes(count: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let value = count
  let unit = 0
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000
    unit += 1
  }
  return unit === 0 ? `${count} B` : `${value.toPrecision(3)} ${units[unit]}`
}
