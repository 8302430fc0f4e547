/** What an error may quote of a tool's last words. */

/** The last lines of a tool's standard error, at most 600 characters, with anything that looks like a secret left out. */
export function lastWords(stderrTail: string): string {
  const lines = stderrTail
    .split('\n')
    .map(line => line.trim())
    // psql names the line of its own source with a SQLSTATE: no help to anybody.
    .filter(line => line !== '' && !line.startsWith('LOCATION:'))
    .slice(-4)
  const text = withoutSecrets(lines.join(' | '))
  return text.length > 600 ? `…${text.slice(-600)}` : text
}

/** Passwords in URLs and in `password=…` of connection strings. */
export function withoutSecrets(text: string): string {
  return text
    .replace(/(\b[a-z][a-z0-9+.-]*:\/\/[^\s:/@]*):[^\s/@]*@/gi, '$1:***@')
    .replace(
      /\b(pgpassword|password|passwd|pwd|secret|token)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s'"&|]+)/gi,
      '$1$2***',
    )
}
