# Sidekiq keeps no results: the job writes its own, with a time to live, as its users do. Loaded by sidekiq itself to work.
require "json"
require "net/http/persistent"
require "sidekiq"

# From Ruby 3.3 on the compiler is asked for like this, as Rails does; the first ones take 256 MiB for a few per cent.
RubyVM::YJIT.enable if defined?(RubyVM::YJIT) && RubyVM::YJIT.respond_to?(:enable)

redis = { url: "redis://127.0.0.1:#{ENV["REDIS_PORT"]}/0" }
Sidekiq.configure_client { |config| config.redis = redis }
Sidekiq.configure_server do |config|
  config.redis = redis
  config.logger.level = Logger::WARN
end

class Translate
  include Sidekiq::Job
  sidekiq_options queue: "translate"

  DAY_S = 86_400
  API = URI(ENV.fetch("API_URL", "http://127.0.0.1/"))
  HTTP = Net::HTTP::Persistent.new(name: "translate", pool_size: ENV.fetch("CONCURRENCY", "16").to_i)
  HEADERS = { "Content-Type" => "application/json", "Ocp-Apim-Subscription-Key" => "bench", "Cache-Control" => "no-cache",
              "User-Agent" => "peer" }.freeze

  def self.key(id) = "result:#{id}"

  def perform(id, text, language_pair)
    post = Net::HTTP::Post.new(API, HEADERS)
    post.body = JSON.generate("in" => text, "lang" => language_pair)
    answer = HTTP.request(API, post)
    said = JSON.parse(answer.body)
    raise "answer #{answer.code}" unless answer.code == "200" && said.is_a?(String)

    Sidekiq.redis { |r| r.call("SET", Translate.key(id), JSON.generate("result" => said), "EX", DAY_S) }
  end
end

if $PROGRAM_NAME == __FILE__
  n = ARGV[1].to_i
  case ARGV[0]
  when "version" then puts Sidekiq::VERSION
  when "load"
    n.times.map { |i| ["b#{i}", "Good morning, number #{i}", "en-tw"] }.each_slice(1000) do |args|
      Sidekiq::Client.push_bulk("class" => Translate, "args" => args)
    end
  when "results"
    found = Sidekiq.redis { |r| r.call("MGET", *n.times.map { |i| Translate.key("b#{i}") }) }
    puts(found.map { |kept| JSON.parse(kept)["result"] })
  end
end
