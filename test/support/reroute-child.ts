/**
 * Loaded before a program (`node --import`): what it asks of Google's and Azure's addresses goes to the stand-in on this
 * machine instead. The names stay theirs, in certificates too, so that the program and its libraries run as they are.
 */
import tls from 'node:tls'

const ours = /(^|\.)(vault\.azure\.net|login\.microsoftonline\.com|blob\.core\.windows\.net|googleapis\.com)$/

/** Until the returned function is called. */
export function reroute(port: number): () => void {
  const { connect } = tls
  const elsewhere = (...given: unknown[]) => {
    const [options, ...more] = given as [tls.ConnectionOptions, ...unknown[]]
    const host = typeof options === 'object' ? options.host : undefined
    const changed =
      typeof host === 'string' && ours.test(host)
        ? { ...options, host: '127.0.0.1', port, servername: options.servername || host }
        : options
    return (connect as (...args: unknown[]) => tls.TLSSocket)(changed, ...more)
  }
  tls.connect = elsewhere as typeof tls.connect
  return () => {
    tls.connect = connect
  }
}

if (process.env.RECORDED_CLOUDS_PORT) reroute(Number(process.env.RECORDED_CLOUDS_PORT))
