//! Commands on reader keys that a script hands back, because in cluster mode these keys live in other slots.
//!
//! The script keeps them beside the state (`pending`) until the next batch, so that they can be sent again by whoever does
//! not know whether they were: after a crash, and after an answer that was lost.
//! Invariant: a batch counts as applied only when all its commands were answered; one that is sent twice has its effect once.

use redis::{Arg, Cmd, RedisError, RedisResult, Value, cmd};

use crate::connection::Connection;
use crate::msgpack::{Packed, unpack};

/// Sends commands as a script's answer has them.
///
/// # Errors
/// No answer, or a refusal that another attempt does not change.
pub async fn send_answered(connection: &mut Connection, emitted: &[Vec<Value>]) -> RedisResult<()> {
    for words in emitted {
        let mut command = Cmd::new();
        for word in words {
            match word {
                Value::Int(number) => command.arg(*number),
                Value::BulkString(bytes) => command.arg(&bytes[..]),
                Value::SimpleString(text) => command.arg(text),
                // a script's answer knows no others
                _ => &mut command,
            };
        }
        send(connection, &command).await?;
    }
    Ok(())
}

/// Sends those of the last batch of a partition again; `key` is where the script keeps them.
///
/// # Errors
/// As [`send_answered`].
pub async fn send_pending(connection: &mut Connection, key: &str) -> RedisResult<()> {
    let pending: Option<Vec<u8>> = cmd("GET").arg(key).query_async(connection).await?;
    let Some(commands) = pending.and_then(|bytes| unpack(&bytes)) else {
        return Ok(());
    };
    for words in commands.iter().flat_map(list) {
        send(connection, &as_command(list(words))).await?;
    }
    Ok(())
}

/// What stands in the way of a reader key is replaced, as the script does it where it sends the commands itself. An entry
/// of a stream that is there already is refused for its id, and done.
async fn send(connection: &mut Connection, command: &Cmd) -> RedisResult<()> {
    // not `req_packed_command`: that takes a refusal for an answer
    let Err(refused) = command.exec_async(connection).await else {
        return Ok(());
    };
    let words = words(command);
    let [name, key, ..] = &words[..] else {
        return Err(refused);
    };
    let is_entry = name == b"XADD";
    let in_the_way = match refused.code() {
        Some("WRONGTYPE") => true,
        Some("ERR") if is_entry => !has_entry(connection, key, &words, refused).await?,
        _ => return Err(refused),
    };
    if in_the_way {
        cmd("DEL").arg(key).exec_async(connection).await?;
        command.exec_async(connection).await?;
    }
    Ok(())
}

/// Whether the stream has the entry that it refused.
async fn has_entry(
    connection: &mut Connection,
    key: &[u8],
    words: &[Vec<u8>],
    refused: RedisError,
) -> RedisResult<bool> {
    // XADD key [MAXLEN n] id field value
    let id = words.len().checked_sub(3).and_then(|at| words.get(at));
    let id = id.ok_or(refused)?;
    let mut range = cmd("XRANGE");
    range.arg(key).arg(id).arg(id);
    let found: Vec<Value> = range.query_async(connection).await?;
    Ok(!found.is_empty())
}

fn words(command: &Cmd) -> Vec<Vec<u8>> {
    let simple = command.args_iter().map(|word| match word {
        Arg::Simple(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    });
    simple.collect()
}

fn list(value: &Packed) -> &[Packed] {
    if let Packed::Array(values) = value {
        values
    } else {
        &[]
    }
}

fn as_command(words: &[Packed]) -> Cmd {
    let mut command = Cmd::new();
    for word in words {
        match word {
            Packed::Int(value) => command.arg(*value),
            Packed::Bytes(value) => command.arg(&value[..]),
            Packed::Array(_) => &mut command,
        };
    }
    command
}
